"""If the API is killed under load, every acknowledged row is stored; others may be."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from checker import Checker
from fakes.judge import FakeJudge
from load import Load
from stack import Stack

SEED = 7


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.long)])
def test_kills_of_the_api_lose_nothing_that_was_answered(
    make_stack: Callable[..., Stack], check_project: Callable[..., Checker], judge: FakeJudge,
    kills: int,
) -> None:
    stack = make_stack()
    stack.start("api", "match", "heavy", "judge", "beat")
    checker = check_project(stack, judge)
    dice = random.Random(SEED)

    with Load(stack, checker.project, checker.log, seed=SEED, clients=3) as load:
        for _ in range(kills):
            until = load.answered + dice.randint(1, 6)
            stack.wait_until(lambda until=until: load.answered >= until, deadline_s=30)
            stack.kill("api")
            stack.start("api", wait=False)
        until = load.answered + 3
        stack.wait_until(lambda: load.answered >= until, deadline_s=30)

    stack.wait_until(checker.is_quiet, deadline_s=60, what="quiet")
    checker.assert_holds()
