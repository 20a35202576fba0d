"""Two projects' scorers on one worker at the same time: neither sees or ends the other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hostile.canaries import new_secret
from hostile.cases import HERE
from hostile.cell import Cell

from ops.servers.children import wait_until
from scorers.sandbox.model import Isolation, Runtime

ROUNDS = 3
RECORDS = 4
LOOKING_S = 3.0
# Those that look for others, or would end them.
PRYING = ("frame_walk_runner", "env_secrets", "proc_snoop", "ptrace_parent", "scm_rights_steal",
          "kill_parent")

REMEMBERS = '''
import builtins, json, os, time
seen = []
def handler(input):
    seen.append(input)
    known = getattr(builtins, "everything", [])
    builtins.everything = [*known, input]
    try:
        open("kept", "a").write(input["secret"])
        text = open("kept").read()
    except OSError:
        text = ""
    time.sleep(input["sleep_s"])
    metadata = {"known": builtins.everything, "kept": text, "seen": seen}
    return {"score": 0.5, "metadata": metadata}
'''
REMEMBERS_SCRIPT = '''
const seen = [];
globalThis.everything ??= [];
export async function handler({ input }) {
  seen.push(input);
  globalThis.everything.push(input);
  await new Promise((resolve) => setTimeout(resolve, input.sleep_s * 1000));
  return { score: 0.5, metadata: { known: globalThis.everything, seen } };
}
'''
CODE = {Runtime.PYTHON: REMEMBERS, Runtime.NODE: REMEMBERS_SCRIPT}


@pytest.mark.parametrize("runtime", list(Runtime))
@pytest.mark.parametrize("isolation", list(Isolation))
def test_what_one_project_scores_the_other_never_sees(
    cell: Cell, runtime: Runtime, isolation: Isolation
):
    secrets = {"left": new_secret(), "right": new_secret()}

    def score(owner: str) -> list[dict[str, Any]]:
        record = {"input": {"secret": secrets[owner], "sleep_s": 0.01}}
        return [
            each
            for _ in range(ROUNDS)
            for each in cell.run(
                owner, runtime, CODE[runtime], [record] * RECORDS, isolation=isolation
            )
        ]

    with ThreadPoolExecutor(2) as pool:
        left, right = pool.map(score, secrets)
    for own, other, rans in (("left", "right", left), ("right", "left", right)):
        assert [each["ended"] for each in rans] == ["ok"] * ROUNDS * RECORDS
        assert secrets[own] in str(rans)
        assert secrets[other] not in str(rans)
    if isolation is Isolation.RECORD:
        assert {len(each["value"]["metadata"]["known"]) for each in left + right} == {1}


def test_who_pries_while_another_project_runs_learns_nothing(cell: Cell):
    secret = new_secret()
    cell.run("victim", Runtime.PYTHON, REMEMBERS, [{"input": {"secret": "", "sleep_s": 0.0}}])
    assert wait_until(lambda: not cell.strangers(), deadline_s=LOOKING_S)
    quiet = len(cell.tree())
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(
            cell.run, "victim", Runtime.PYTHON, REMEMBERS,
            [{"input": {"secret": secret, "sleep_s": LOOKING_S}}],
            limits={"time_s": 2 * LOOKING_S},
        )
        # A supervisor and a child more than the walls.
        assert wait_until(lambda: len(cell.tree()) >= quiet + 2, deadline_s=LOOKING_S)
        for name in PRYING:
            attack = (HERE / "python" / f"{name}.py").read_text()
            (pried,) = cell.run("attacker", Runtime.PYTHON, attack, [cell.record()])
            assert pried["ended"] == "ok", pried
            assert pried["scores"][0]["value"] == 0.0, pried
            assert secret not in str(pried)
        assert not running.done(), "the victim had ended before the attacks had"
        (ran,) = running.result()
    assert ran["ended"] == "ok", ran
    assert ran["value"]["metadata"]["seen"] == [{"secret": secret, "sleep_s": LOOKING_S}]
    cell.assert_quiet("attacker", Runtime.PYTHON)
