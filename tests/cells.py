"""The kinds of sandbox that tests run in, and which of them are left to the long run.

A cell is a tier, as root or as an ordinary user. Root has all four; an ordinary user, who
cannot be root, has the two of its own user. `make test` runs each test of the sandbox in the
first cell (the default tier, as the user who runs the tests) and in one of the others, chosen
by the test's name. `make test-long` runs it in the rest.
"""

from __future__ import annotations

import os
import zlib
from itertools import product

import pytest

from scorers.sandbox.place import Tier

IS_ROOT = os.geteuid() == 0
USERS = ("root", "user") if IS_ROOT else ("user",)
CELLS = tuple(product(Tier, USERS))
FIRST, *OTHERS = CELLS

ORDINARY_UID = 61183 - int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])  # noqa: TID251
"""A user that is nobody's: below it end the users of most systems, above it begin systemd's
dynamic ones. Each process that runs tests has one of its own, because some limits count all
that a user runs."""


def cell_id(cell: tuple[Tier, str]) -> str:
    """The cell's name in the names of tests."""
    tier, user = cell
    return f"{tier.value}-{user}"


def leave_to_the_long_run(items: list[pytest.Item]) -> None:
    """Marks as `long` what runs in two other cells already."""
    for item in items:
        cell = _cell_of(item)
        if cell is None or cell == FIRST:
            continue
        name = item.nodeid.replace(cell_id(cell), "")
        if cell != OTHERS[zlib.crc32(name.encode()) % len(OTHERS)]:
            item.add_marker(pytest.mark.long)


def _cell_of(item: pytest.Item) -> tuple[Tier, str] | None:
    """The cell that the test runs in; None for a test that has none."""
    callspec = getattr(item, "callspec", None)
    cell = callspec.params.get("cell") if callspec else None
    assert cell is None or cell in CELLS
    return cell
