"""Programs from the system's packages: bubblewrap, and the PostgreSQL of Debian 12.

Root installs them on Debian and Ubuntu; for others the command is printed. Without them all
else works, so their absence is an error only where it is said to be one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from ops.install.failure import ProgramFailed, SetupFailed
from ops.install.pieces import Making
from ops.install.places import guarded

APT = "apt-get"

NO_CLUSTER = Path("/etc/postgresql-common/createcluster.d/tallyard.conf")
"""Debian's PostgreSQL reads here, as it is installed, whether it makes and starts a server."""


@dataclass(frozen=True, kw_only=True)
class DebianPackage:
    """A package of Debian. `program`, a path or a name on PATH, is there once it is installed.

    `without` says what does not work until then, which is fatal if the package is required.
    The files in `meanwhile` are there only while it is installed.
    """

    name: str
    program: str
    without: str
    is_required: bool
    meanwhile: Mapping[Path, str] = field(default_factory=dict)
    after = ()

    def is_complete(self) -> bool:
        """Whether its program is there."""
        return shutil.which(self.program) is not None

    def make(self, making: Making) -> None:
        """Install it, or say what does not work without it and how to install it."""
        reason = ""
        if os.geteuid() == 0 and shutil.which(APT):
            making.source = "Debian's archive"
            # apt-get refuses to run twice at a time.
            with guarded(APT, making), _files(self.meanwhile):
                reason = self._install(making)
            if self.is_complete():
                return
        raise SetupFailed(f"{reason}{self._advice()}", is_fatal=self.is_required)

    def _install(self, making: Making) -> str:
        """Install it with apt-get. Gives the last of its words if that failed, as a line."""
        making.now("apt-get installs it")
        try:
            _apt(making, "install", self.name)
        except ProgramFailed:
            # Fresh images have no package lists, or old ones.
            try:
                _apt(making, "update")
                _apt(making, "install", self.name)
            except ProgramFailed as failure:
                return f"{failure}\n"
        return ""

    def _advice(self) -> str:
        command = (
            f"sudo apt-get install {self.name}" if shutil.which(APT)
            else f"install {self.name} with the system's package manager"
        )
        return f"{self.name} is missing, so {self.without}: {command}"


def bubblewrap(*, is_required: bool) -> DebianPackage:
    """bubblewrap, which contains users' code."""
    return DebianPackage(
        name="bubblewrap", program="bwrap", is_required=is_required,
        without="no code scorer runs, and all else works",
    )


def postgresql_15(*, is_required: bool) -> DebianPackage:
    """The PostgreSQL of Debian 12, its programs alone: no server is made or started."""
    return DebianPackage(
        name="postgresql-15", program="/usr/lib/postgresql/15/bin/postgres",
        is_required=is_required, meanwhile={NO_CLUSTER: "create_main_cluster = false\n"},
        without="the tests of the store that need it are left out",
    )


@contextmanager
def _files(texts: Mapping[Path, str]) -> Iterator[None]:
    """Files that are there meanwhile, and no longer than that."""
    made = [folder for path in texts for folder in path.parents if not folder.exists()]
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    try:
        yield
    finally:
        for path in texts:
            path.unlink()
        for folder in made:
            with suppress(OSError):   # the package has put files of its own there
                folder.rmdir()


def _apt(making: Making, *arguments: str) -> None:
    making.run(
        [APT, "--quiet", "--yes", "--no-install-recommends", *arguments],
        environment={"DEBIAN_FRONTEND": "noninteractive"},
    )
