"""bubblewrap, which contains users' code, from the system's packages.

Root installs it on Debian and Ubuntu; for others the command is printed. Without it everything
but code scorers works, so its absence is an error only where tests need it.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

from ops.install.failure import ProgramFailed, SetupFailed
from ops.install.pieces import Making
from ops.install.places import guarded

PACKAGE = "bubblewrap"


@dataclass(frozen=True)
class Bubblewrap:
    """The program `bwrap`."""

    is_required: bool
    name = PACKAGE
    after = ()

    def is_complete(self) -> bool:
        """Whether it is on PATH."""
        return shutil.which("bwrap") is not None

    def make(self, making: Making) -> None:
        """Install it, or say what does not work without it and how to install it."""
        reason = ""
        if os.geteuid() == 0 and shutil.which("apt-get"):
            making.source = "Debian's archive"
            with guarded(self.name, making):
                reason = _install(making)
            if self.is_complete():
                return
        raise SetupFailed(f"{reason}{advice()}", is_fatal=self.is_required)


def _install(making: Making) -> str:
    """Install it with apt-get. Gives the last of its words if that failed, as a line."""
    making.now("apt-get installs it")
    try:
        _apt(making, "install", PACKAGE)
    except ProgramFailed:
        # Fresh images have no package lists, or old ones.
        try:
            _apt(making, "update")
            _apt(making, "install", PACKAGE)
        except ProgramFailed as failure:
            return f"{failure}\n"
    return ""


def _apt(making: Making, *arguments: str) -> None:
    making.run(
        ["apt-get", "--quiet", "--yes", "--no-install-recommends", *arguments],
        environment={"DEBIAN_FRONTEND": "noninteractive"},
    )


def advice() -> str:
    """The one command that installs it."""
    command = (
        f"sudo apt-get install {PACKAGE}" if shutil.which("apt-get")
        else f"install {PACKAGE} with the system's package manager"
    )
    return f"bwrap is missing, so no code scorer runs, and all else works: {command}"
