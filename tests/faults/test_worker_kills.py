"""Nothing is lost or duplicated if workers are killed while spans are logged and scored."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from checker import Checker, number
from fakes.judge import FakeJudge
from load import DEAR_COST, Load, span
from stack import Stack

SEED = 20
QUIET_S = 60.0
# A worker's pool is its children alone, which the worker starts again by itself; a judge has
# none, it works in threads.
TWENTY_KILLS = {
    ("match", "pool"): 6, ("match", "all"): 3, ("heavy", "pool"): 5, ("heavy", "all"): 2,
    ("judge", "all"): 4,
}
ONE_KILL_OF_EACH = dict.fromkeys(TWENTY_KILLS, 1)

HELD = {
    "match": "select count(*) from outbox where owner is not null",
    "judge": "select count(*) from outcome where owner is not null and queue = 'judge'",
    "heavy": "select count(*) from outcome where owner is not null and queue = 'heavy'",
}


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(ONE_KILL_OF_EACH, id="one of each"),
        pytest.param(TWENTY_KILLS, id="twenty", marks=pytest.mark.long),
    ],
)
def test_kills_of_workers_in_the_middle_of_a_batch_lose_and_double_nothing(
    make_stack: Callable[..., Stack], check_project: Callable[..., Checker], judge: FakeJudge,
    kills: dict[tuple[str, str], int],
) -> None:
    stack = make_stack(cost_limit=DEAR_COST)
    stack.start("api", "match", "heavy", "judge", "beat")
    checker = check_project(stack, judge)
    dice = random.Random(SEED)

    with Load(stack, checker.project, checker.log, seed=SEED) as load:
        victims = [victim for victim, times in kills.items() for _ in range(times)]
        for name, part in dice.sample(victims, len(victims)):
            kill_while_it_holds_something(stack, name, part)
        stack.start(*HELD)
        answered = load.answered
        stack.wait_until(lambda: load.answered > answered + 2, deadline_s=30)

    stack.wait_until(checker.is_quiet, deadline_s=QUIET_S, what="quiet")
    # Whoever was held three times when we struck cannot prove its innocence; it gets another
    # chance as an operator gives it.
    checker.retries = True
    retry = f"/v1/project_logs/{checker.project}/outcomes/retry"
    stack.ok("POST", retry, {"class": "poisoned"})
    stack.wait_until(checker.is_quiet, deadline_s=QUIET_S, what="quiet")
    checker.assert_holds()


def kill_while_it_holds_something(stack: Stack, name: str, part: str) -> None:
    """SIGKILL to a worker, or to its pool alone, in the middle of a batch."""

    def is_at_work() -> bool:
        # As the supervisor does. Celery itself gives up if its pool dies while it starts.
        stack.start(*HELD, wait=False)
        has_pool = name == "judge" or len(stack.pids(name)) > 1
        return has_pool and bool(number(stack.database_url, HELD[name]))

    stack.wait_until(is_at_work, deadline_s=30, what=f"{name} to hold something")
    if part == "all":
        stack.kill(name)
    else:
        stack.kill_pool(name)


def test_what_a_killed_worker_held_is_not_waited_for_until_its_lease_ends(
    make_stack: Callable[..., Stack], check_project: Callable[..., Checker], judge: FakeJudge
) -> None:
    stack = make_stack(lease_s="600")
    stack.start("api", "match", "heavy", "judge", "beat")
    checker = check_project(stack, judge)
    judge.then("hang")
    event = span("one", metadata={"judged": True})
    request = checker.log.send([event])
    stack.insert(checker.project, event)
    checker.log.acknowledge(request)
    stack.wait_until(lambda: judge.calls, deadline_s=30, what="the call")

    stack.kill("judge")
    stack.start("judge")

    stack.wait_until(checker.is_quiet, deadline_s=30, what="quiet")
    checker.assert_holds()
    assert len(judge.calls) == 2
