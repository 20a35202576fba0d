"""Each process of a sandbox is killed from outside in the middle of a batch.

Each record then has its correct result or an error that is retried, never a wrong result.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import psutil
import pytest
from hostile.cell import Cell, living

from ops.servers.children import wait_until
from scorers.sandbox.model import Runtime
from scorers.sandbox.place import Tier

RECORDS = 3
RECORD_S = 1.0
"""Long enough to be hit in the middle, also on a busy machine."""

STARTED_S = 30.0

SLOW = '''
import time
def handler(input):
    time.sleep(input["sleep_s"])
    return input["number"] / 10
'''
SLOW_SCRIPT = '''
export async function handler({ input }) {
  await new Promise((resolve) => setTimeout(resolve, input.sleep_s * 1000));
  return input.number / 10;
}
'''
CODE = {Runtime.PYTHON: SLOW, Runtime.NODE: SLOW_SCRIPT}
PATIENT = {"time_s": 20.0}


def records(sleep_s: float) -> list[dict[str, Any]]:
    return [{"input": {"number": each, "sleep_s": sleep_s}} for each in range(RECORDS)]


def chain(process: psutil.Process) -> list[psutil.Process]:
    """A process and what runs below it, outermost first; there is one child to each."""
    found = [process]
    with suppress(psutil.NoSuchProcess):
        while children := found[-1].children():
            found.append(children[0])
    return found


@pytest.mark.parametrize("runtime", list(Runtime))
@pytest.mark.parametrize("who", ["wall", "zygote", "supervisor", "child"])
def test_a_killed_sandbox_gives_right_scores_or_asks_for_another_try(
    cell: Cell, who: str, runtime: Runtime
):
    owner = f"mortal-{who}-{runtime}"
    jail = new_jail(cell, owner, runtime)
    walls = {Tier.BUBBLEWRAP: 3, Tier.LANDLOCK: 1}[cell.tier]
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(
            cell.run, owner, runtime, CODE[runtime], records(RECORD_S), limits=PATIENT
        )
        # The walls with the zygote, a supervisor, the child that has begun.
        found: list[psutil.Process] = []

        def is_at_work() -> bool:
            found[:] = chain(jail)
            return len(found) >= walls + 2

        assert wait_until(is_at_work, deadline_s=STARTED_S)
        place = {"wall": 0, "zygote": walls - 1, "supervisor": walls, "child": walls + 1}[who]
        found[place].kill()
        rans = running.result()
    assert len(rans) == RECORDS
    for number, ran in enumerate(rans):
        if ran["ended"] == "ok":
            assert ran["value"] == number / 10
        else:
            # A child that was killed looks as if the scorer had done it to itself.
            allowed = {"sandbox_lost", "infra_error", *(["killed"] if who == "child" else [])}
            assert ran["ended"] in allowed, ran
    assert_works_again(cell, owner, runtime)


def new_jail(cell: Cell, owner: str, runtime: Runtime) -> psutil.Process:
    """The outermost process of the jail that a new owner gets."""
    known = {each.pid for each in cell.worker.driver.children()}
    ran = cell.run(owner, runtime, CODE[runtime], records(0.0)[:1])
    assert [each["ended"] for each in ran] == ["ok"]
    (jail,) = (
        each
        for each in living(cell.worker.driver.children())
        if each.pid not in known
    )
    return jail


def assert_works_again(cell: Cell, owner: str, runtime: Runtime) -> None:
    rans = cell.run(owner, runtime, CODE[runtime], records(0.0))
    assert [each["value"] for each in rans] == [each / 10 for each in range(RECORDS)]
    assert wait_until(lambda: not cell.strangers(), deadline_s=STARTED_S), cell.strangers()
