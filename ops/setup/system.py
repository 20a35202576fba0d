"""Installs the programs that sandboxes need: bubblewrap, node and esbuild.

It runs under the Python that `make` found, before any package is installed, so it uses only the
standard library. It installs only as root on Debian and Ubuntu; elsewhere it prints the
command. Without these programs everything but code scorers works, so a missing one is an error
only with `--required`, which the tests use.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass

NODE_LEAST = 20
NODE_ASK_S = 10
APT_S = 600
LOG_TAIL_LINES = 8


@dataclass(frozen=True, slots=True)
class SystemProgram:
    """A program, the Debian package that has it, and what does not work without it."""

    command: str
    package: str
    without: str


PROGRAMS = (
    SystemProgram("bwrap", "bubblewrap", "no code scorer runs"),
    SystemProgram("node", "nodejs", "no TypeScript scorer runs"),
    SystemProgram("esbuild", "esbuild", "no TypeScript scorer can be uploaded"),
)
TEST_PROGRAMS = (SystemProgram("npm", "npm", "the JavaScript client cannot be tested"),)


def main(arguments: list[str] | None = None) -> int:
    """Run the program. Gives the exit code: 1 if a required program is missing, else 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--required", action="store_true", help="fail if a program is missing")
    given = parser.parse_args(arguments)
    try:
        wanted = (*PROGRAMS, *TEST_PROGRAMS) if given.required else PROGRAMS
        lacking = missing(wanted)
        if lacking and may_install():
            install(lacking)
            lacking = missing(wanted)
        told = [*map(_advice, lacking), *_old_node()]
    except KeyboardInterrupt:
        sys.stderr.write("Stopped; run the command again to continue.\n")
        return 130
    for line in told:
        sys.stderr.write(f"{line}\n")
    return 1 if told and given.required else 0


def missing(wanted: tuple[SystemProgram, ...]) -> list[SystemProgram]:
    """The wanted programs that are not on PATH."""
    return [piece for piece in wanted if not shutil.which(piece.command)]


def may_install() -> bool:
    """Whether this process is root and apt-get exists."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(pieces: list[SystemProgram]) -> None:
    """Install the programs with apt-get; print its errors, and skip what it cannot install."""
    sys.stdout.write(f"Installing {_packages(pieces)} (once) ...\n")
    sys.stdout.flush()
    if _apt("install", *(piece.package for piece in pieces)) is None:
        return
    # Fresh images have no package lists, or old ones.
    _apt("update")
    for piece in pieces:
        if failure := _apt("install", piece.package):
            sys.stderr.write(f"{failure}\n")


def _apt(*arguments: str) -> str | None:
    """None, or the last lines of apt-get's output if it failed."""
    done = subprocess.run(  # noqa: S603 names of packages that stand above
        ["apt-get", "--quiet", "--yes", "--no-install-recommends", *arguments],  # noqa: S607
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},  # noqa: TID251 apt's, not ours
        text=True,
        timeout=APT_S,
        check=False,
    )
    if done.returncode == 0:
        return None
    return "\n".join(done.stdout.strip().splitlines()[-LOG_TAIL_LINES:])


def _advice(piece: SystemProgram) -> str:
    if shutil.which("apt-get"):
        step = f"sudo apt-get install {piece.package}"
    else:
        step = f"install {piece.package} with the system's package manager"
    return f"{piece.command} is missing, so {piece.without}: {step}"


def _old_node() -> list[str]:
    """One sentence if node is installed but too old, else none."""
    node = shutil.which("node")
    if not node:
        return []
    asked = subprocess.run(  # noqa: S603 the node that would run scorers
        [node, "--version"], capture_output=True, text=True, timeout=NODE_ASK_S, check=False
    )
    found = re.match(r"v(\d+)", asked.stdout)
    if found and int(found[1]) >= NODE_LEAST:
        return []
    return [
        f"{node} is {asked.stdout.strip() or 'not usable'}, so no TypeScript scorer runs: "
        f"install node {NODE_LEAST} or newer (https://nodejs.org/en/download)"
    ]


def _packages(pieces: list[SystemProgram]) -> str:
    return ", ".join(piece.package for piece in pieces)


if __name__ == "__main__":
    sys.exit(main())
