"""Fetches uv, which installs environments much faster than pip does, and runs it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from ops.install import pip
from ops.install.failure import ProgramFailed, SetupFailed
from ops.install.pieces import Making
from ops.install.places import CACHE, guarded

LOCK = Path("requirements-setup.txt")
FOLDER = CACHE / "uv"
PACKAGES = CACHE / "packages"
"""uv's cache. It is in the project, because files can be linked only within one file system."""

_LARGE = re.compile(r"^(Downloading|Downloaded|Building|Built) (\S+)(?: (\(.+\)))?$")
AWAITED_SHOWN = 3
_NO_ANSWER = "Retrying (Retry("
"""What pip prints if it cannot reach an index."""


class Uv:
    """uv, which pip fetches. Where it is not to be had, pip does all of uv's work."""

    name = "uv"
    after = ()

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._configured: dict[str, str] | None = None

    @cached_property
    def program(self) -> Path:
        """The program's path, absolute; it may be missing. It changes with the lock."""
        digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()
        return (FOLDER / digest[:16] / "bin" / "uv").absolute()

    def is_complete(self) -> bool:
        """Whether it is here."""
        return self.program.exists()

    def make(self, making: Making) -> None:
        """Fetch it. Raises SetupFailed if there is no index at all."""
        making.now("pip fetches it")
        with guarded("uv", making):
            if self.is_complete():
                return
            command = pip.pip(making)
            # pip takes half a second to tell its settings, which are needed next.
            reading = threading.Thread(target=self.configured, args=(making,))
            reading.start()
            # Whatever is there was interrupted, or is an older uv.
            shutil.rmtree(FOLDER, ignore_errors=True)
            half = FOLDER / "half"
            try:
                self._fetch(making, command, half)
                making.run([str(half / "bin" / "uv"), "--version"])
            except ProgramFailed as failure:
                reason = str(failure)
                if _NO_ANSWER in reason:
                    index = pip.index_name(self.configured(making))
                    raise SetupFailed(pip.unreachable(reason, index)) from failure
                making.say(
                    f"not to be had here, so pip installs, which takes some minutes: "
                    f"{reason.splitlines()[-1]}"
                )
            else:
                half.rename(self.program.parents[1])
            finally:
                reading.join()

    def _fetch(self, making: Making, command: list[str], folder: Path) -> None:
        # Without a wheel for this machine, its source would be compiled.
        options = ("--no-deps", "--no-user", "--only-binary", ":all:", "--require-hashes")
        making.run(
            [*command, *pip.QUIETLY, "install", "--quiet", *options,
             "--target", str(folder), "--requirement", str(LOCK)],
            environment=pip.ENVIRONMENT,
        )  # fmt: skip

    def configured(self, making: Making) -> dict[str, str]:
        """pip's configuration, read once."""
        with self._lock:
            if self._configured is None:
                self._configured = pip.configuration(making)
                making.source = pip.index_name(self._configured)
            return self._configured

    def run(self, making: Making, *arguments: str, lock: Path | None = None) -> None:
        """Run `uv pip`. If it installs `lock`, its progress is its state.

        Raises ProgramFailed.
        """
        own = os.environ  # noqa: TID251 of uv and pip, not ours
        report = _Report(pip.names_in(lock) if lock else frozenset())
        if lock:
            making.follow(report.text)
        try:
            making.run(
                [str(self.program), "pip", *arguments],
                environment=variables(self.configured(making), own), hear=report.hear,
            )
        except ProgramFailed as failure:
            try:
                making.run([str(self.program), "--version"])
            except ProgramFailed:
                self.program.unlink(missing_ok=True)
                raise ProgramFailed(
                    f"{failure}\n{self.program} was damaged, and is deleted: the next run "
                    "fetches it again"
                ) from failure
            raise


def variables(configured: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """The environment variables under which uv runs."""
    return {
        "UV_CACHE_DIR": str(PACKAGES.absolute()),
        "UV_NO_PROGRESS": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_SYSTEM_PYTHON": "0",
        "NO_COLOR": "1",
        # A package of links into the cache could not be shown in a sandbox.
        **({"UV_LINK_MODE": "copy"} if own.get("UV_LINK_MODE") == "symlink" else {}),
        **pip.for_uv(configured, own),
    }


class _Report:
    """How far uv is with the packages `names`: what it prints, and what is in its cache."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._of = 0
        self._phase = "looks up its packages"
        self._awaited: dict[str, str] = {}

    def hear(self, line: str) -> None:
        """Take a line that uv printed."""
        if found := re.match(r"Resolved (\d+) packages?", line):
            self._of = int(found[1])
            self._phase = ""
        elif found := _LARGE.match(line):
            verb, name, size = found.groups()
            if verb in ("Downloading", "Building"):
                self._awaited[name] = f"{name} {size}" if size else name
            else:
                self._awaited.pop(name, None)
        elif line.startswith("Prepared"):
            self._phase = f"links and compiles {self._of} packages"

    def text(self) -> str:
        """What it does just now."""
        if self._phase:
            return self._phase
        # A large package is in the cache's index before all of it has arrived.
        count = min(len(self._names & _in_cache()), self._of - len(self._awaited))
        here = f"{max(count, 0)} of {self._of} packages are here"
        awaited = ", ".join(list(self._awaited.values())[:AWAITED_SHOWN])
        return f"{here}, waiting for {awaited}" if awaited else here


def _in_cache() -> set[str]:
    """Names of the packages that uv has unpacked: it links to each from below its name."""
    found = (*PACKAGES.glob("wheels-v*/pypi/*/*"), *PACKAGES.glob("wheels-v*/*/*/*/*"))
    return {each.parent.name for each in found if each.is_symlink()}
