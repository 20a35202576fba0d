"""From a span sent over HTTP to its score, on real processes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
from stack import EVERYTHING, ROOT, Stack, inherited

BORROWER = """
import json, sys
from pathlib import Path
from stack import Stack
database_url, redis_url, folder = sys.argv[1:]
stack = Stack(database_url=database_url, redis_url=redis_url, folder=Path(folder))
stack.start("api", "match", "judge", "beat")
print(json.dumps([pid for name in stack.children for pid in stack.pids(name)]), flush=True)
sys.stdin.read()
"""


def test_a_finished_span_gets_the_score_of_a_rule(stack: Stack) -> None:
    project = stack.project()
    stack.rule(project, "ExactMatch")

    stack.insert(
        project,
        {"id": "a", "input": "2 + 2", "output": "4", "expected": "4",
         "metrics": {"end": time.time()}},
    )

    assert stack.scored(project, "a")["scores"] == {"ExactMatch": 1}


def test_a_stack_of_ones_own_starts_scores_and_stops(own_stack: Stack) -> None:
    own_stack.start("api", "match")
    pids = own_stack.pids("api") + own_stack.pids("match")
    project = own_stack.project()
    own_stack.rule(project, "ExactMatch")
    own_stack.insert(
        project, {"id": "a", "output": "4", "expected": "5", "metrics": {"end": 1.0}}
    )
    assert own_stack.scored(project, "a")["scores"] == {"ExactMatch": 0}

    own_stack.stop()

    assert not [pid for pid in pids if psutil.pid_exists(pid)]


def test_a_test_run_that_is_killed_leaves_no_process(
    fresh_database_url: str, fresh_redis_url: str, tmp_path: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BORROWER, fresh_database_url, fresh_redis_url, str(tmp_path)],
        env=inherited(PYTHONPATH=f"{ROOT}:{ROOT / 'tests'}"), stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    ) as run:
        assert run.stdout is not None
        pids = json.loads(run.stdout.readline())
        assert len(pids) > 4
        assert all(psutil.pid_exists(pid) for pid in pids)

        run.kill()

        Stack.wait_until(
            lambda: not any(psutil.pid_exists(pid) for pid in pids), deadline_s=15,
            what="their end",
        )


def test_each_process_also_starts_as_an_interpreter_of_its_own_as_in_containers(
    fresh_database_url: str, fresh_redis_url: str, tmp_path: Path
) -> None:
    # The same code under another path, which the fork server has not imported.
    code = tmp_path / "code"
    code.symlink_to(ROOT)
    with Stack(
        database_url=fresh_database_url, redis_url=fresh_redis_url, folder=tmp_path / "stack",
        code=code,
    ) as stack:
        stack.start(*EVERYTHING, "beat")
        project = stack.project()
        stack.rule(project, "ExactMatch")
        stack.insert(
            project, {"id": "a", "output": "4", "expected": "4", "metrics": {"end": 1.0}}
        )
        assert stack.scored(project, "a")["scores"] == {"ExactMatch": 1}
