"""Installs what scorers' sandboxes need of the system: bubblewrap, node and esbuild.

Runs under the bare Python that `make` found, hence the standard library alone. It installs only
as root on Debian and Ubuntu; elsewhere it prints the command. With `--required`, as the tests
ask it, what is missing is a failure; without, all but users' own code scorers works.
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
class Piece:
    """A program, the Debian package that brings it, and what is not there without it."""

    command: str
    package: str
    without: str


PIECES = (
    Piece("bwrap", "bubblewrap", "no code scorer runs"),
    Piece("node", "nodejs", "no TypeScript scorer runs"),
    Piece("esbuild", "esbuild", "no TypeScript scorer can be uploaded"),
)
OF_TESTS = (Piece("npm", "npm", "the JavaScript client cannot be tested"),)


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0; or 1 if pieces are missing that are required."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--required", action="store_true", help="fail if a piece is missing")
    given = parser.parse_args(arguments)
    try:
        wanted = (*PIECES, *OF_TESTS) if given.required else PIECES
        lacking = missing(wanted)
        if lacking and may_install():
            install(lacking)
            lacking = missing(wanted)
        told = [*map(_advice, lacking), *_old_node()]
    except KeyboardInterrupt:
        sys.stderr.write("Stopped; run the command again to go on.\n")
        return 130
    for line in told:
        sys.stderr.write(f"{line}\n")
    return 1 if told and given.required else 0


def missing(wanted: tuple[Piece, ...]) -> list[Piece]:
    """Those that PATH does not have."""
    return [piece for piece in wanted if not shutil.which(piece.command)]


def may_install() -> bool:
    """As root, where there is apt-get."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(pieces: list[Piece]) -> None:
    """Ask apt-get for each; what it cannot bring stays missing, and its words are shown."""
    sys.stdout.write(f"Installing {_packages(pieces)} (once) ...\n")
    sys.stdout.flush()
    if _apt("install", *(piece.package for piece in pieces)) is None:
        return
    # Fresh images have no lists of packages, or old ones.
    _apt("update")
    for piece in pieces:
        if failure := _apt("install", piece.package):
            sys.stderr.write(f"{failure}\n")


def _apt(*arguments: str) -> str | None:
    """None, or the last lines of what it said when it failed."""
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


def _advice(piece: Piece) -> str:
    if shutil.which("apt-get"):
        step = f"sudo apt-get install {piece.package}"
    else:
        step = f"install {piece.package} with the system's package manager"
    return f"{piece.command} is missing, so {piece.without}: {step}"


def _old_node() -> list[str]:
    """A sentence if node is there and too old."""
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


def _packages(pieces: list[Piece]) -> str:
    return ", ".join(piece.package for piece in pieces)


if __name__ == "__main__":
    sys.exit(main())
