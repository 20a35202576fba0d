"""A worker in each cell (tests/cells.py), and canaries around it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cells import CELLS, IS_ROOT, ORDINARY_UID, cell_id
from hostile.canaries import Canaries, listening
from hostile.cell import Cell, Owned
from hostile.worker import ROOT, started

from scorers.sandbox.jail import JAIL_UID
from scorers.sandbox.model import Runtime

UIDS = {"root": 0, "user": ORDINARY_UID if IS_ROOT else os.geteuid()}
ANYBODY = 0o777
PYTHON = Path(sys.executable).resolve()

# Set-up puts them beside the environment that runs the tests, as it does for workers.
_ENVIRONMENT = Path(sys.prefix)
PACKAGES = (
    _ENVIRONMENT.with_name(f"{_ENVIRONMENT.name}-scorers")
    / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
)

READER = "def handler(input):\n    return len(input['text']) / 100\n"


@pytest.fixture(scope="session")
def canaries() -> Iterator[Canaries]:
    with listening() as found:
        yield found


@pytest.fixture(scope="session", params=CELLS, ids=cell_id)
def cell(request: pytest.FixtureRequest, canaries: Canaries) -> Iterator[Cell]:
    """A worker that has also scored a secret record of another project's."""
    tier, user = request.param
    folder = Path(tempfile.mkdtemp(prefix="tallyard-hostile-"))
    bundles, scratch = folder / "bundles", folder / "scratch"
    for each in (folder, bundles, scratch):
        each.mkdir(exist_ok=True)
        each.chmod(ANYBODY)
    setting = {
        "tier": tier, "python": str(PYTHON),
        "packages": str(PACKAGES), "preload": ("autoevals",),
        "bundles": str(bundles), "scratch": str(scratch),
    }
    owned = Owned.made(folder, UIDS[user] or JAIL_UID)
    needed = [Path(sys.base_prefix).resolve(), _ENVIRONMENT, PACKAGES, ROOT]
    try:
        with started(
            setting, uid=UIDS[user], needed=needed,
            environment={"CANARY": canaries.in_environment, "TMPDIR": str(folder)},
        ) as worker:
            made = Cell(
                worker=worker, tier=tier, canaries=canaries, owned=owned,
                visible=(str(PYTHON.parent.parent), str(PACKAGES), *sys.path),
            )
            secret = {"input": {"text": canaries.in_record}}
            (ran,) = made.run("neighbour", Runtime.PYTHON, READER, [secret])
            assert ran["ended"] == "ok", ran
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)
