"""The command `python -m ops.install`, which make and the Dockerfile start.

With nothing to do it takes a tenth of a second.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from ops.install.bytecode import Bytecode
from ops.install.debian import bubblewrap, postgresql_15
from ops.install.environments import Environment
from ops.install.failure import SetupFailed
from ops.install.node import NodePackages
from ops.install.pieces import Piece, carry_out, show
from ops.install.places import CACHE
from ops.install.uv import Uv

PRODUCT = Path("requirements.txt")
DEVELOPERS = Path("requirements-dev.txt")
SCORERS = Path("requirements-scorers.txt")
NODE = Path()
"""Where the lock of esbuild is."""

INSIDE = Path("scorers", "sandbox", "inside")
"""What a jail shows of the project. A checkout has the mode that the umask gave it."""

TESTS = Path("tests", "clients")
CLIENTS = ("sdk-0.47", "sdk-0.3", "api-0.6", "openai-2")
"""The real clients of the tests. Each has its own environment: their dependencies conflict."""

SERVER = "postgres-16"
"""An older release of the wheel with PostgreSQL, which cannot be beside the newest."""

PUSHER = "push-0.47"
"""`braintrust push`. Its test has no network, so what it bundles is downloaded here."""

JAVASCRIPT = "push-js"


def main(arguments: list[str] | None = None) -> int:
    """Install what is missing. Gives the exit code: 0, 1 after an error, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m ops.install", description=__doc__)
    parser.add_argument(
        "what", choices=("product", "dev", "tests", "image", "uv"),
        help="product: what make run needs; dev: make check; tests: make test; image: the same "
        "as product, but for the project itself and bubblewrap; uv: only uv",
    )
    parser.add_argument(
        "--into", type=Path, default=Path(".venv"), help="the product's environment"
    )
    given = parser.parse_args(arguments)
    # Root's scorers run as another user, who must be able to read what a jail shows.
    os.umask(0o022)
    if given.what != "image" and os.geteuid() == 0:
        _open(INSIDE)
    # A path may have letters that the locale's encoding lacks.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    signal.signal(signal.SIGTERM, _interrupted)
    try:
        return install(pieces_of(given.what, given.into))
    except KeyboardInterrupt:
        sys.stderr.write("Stopped; run the command again to continue.\n")
        return 130


def pieces_of(what: str, into: Path) -> list[Piece]:
    """All that `what` needs, in an order in which each comes after those that it needs."""
    uv = Uv()
    if what == "uv":
        return [uv]
    environment = Environment(
        folder=into, uv=uv, project=None if what == "image" else Path(),
        locks=(PRODUCT, DEVELOPERS) if what in ("dev", "tests") else (PRODUCT,),
    )
    scorers = Environment(
        folder=into.with_name(f"{into.name}-scorers"), uv=uv, locks=(SCORERS,)
    )
    node = NodePackages(
        folder=into / "lib", source=NODE, environment=environment,
        programs="@esbuild/*/bin/esbuild", is_required=what != "product",
    )
    found: list[Piece] = [uv, environment, scorers, node]
    if environment.project:
        found.append(Bytecode(environment))
    if what == "tests":
        found += [*_clients(uv, environment), postgresql_15(is_required=False)]
    if what in ("product", "tests"):
        found.append(bubblewrap(is_required=what == "tests"))
    return found


def _clients(uv: Uv, environment: Environment) -> list[Piece]:
    return [
        *(
            Environment(
                folder=CACHE / "clients" / name, uv=uv, locks=(TESTS / f"{name}.txt",),
                wheels="wheels" if name == PUSHER else None,
            )
            for name in (*CLIENTS, SERVER, PUSHER)
        ),
        NodePackages(
            folder=CACHE / "clients" / JAVASCRIPT, source=TESTS / JAVASCRIPT,
            environment=environment, programs="braintrust/package.json", is_required=True,
        ),
    ]


def install(wanted: Sequence[Piece]) -> int:
    """Install what is missing. Gives the exit code."""
    missing = [each for each in wanted if not each.is_complete()]
    awaited = {needed.name for each in missing for needed in each.after}
    # uv serves only to install others.
    if len(wanted) > 1:
        missing = [each for each in missing if each.name != Uv.name or each.name in awaited]
    if not missing:
        return 0
    show(f"Installing, once: {', '.join(each.name for each in missing)}")
    failures: list[SetupFailed] = carry_out(missing)
    for failure in failures:
        sys.stderr.write(f"{failure}\n")
    return 1 if any(each.is_fatal for each in failures) else 0


def _open(folder: Path) -> None:
    """Let all users read the folder and what is in it."""
    for path in (folder, *folder.rglob("*")):
        mode = path.stat().st_mode
        wanted = mode | (0o055 if path.is_dir() else 0o044)
        if mode != wanted:   # a complete installation may be on a read-only file system
            path.chmod(wanted)


def _interrupted(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
