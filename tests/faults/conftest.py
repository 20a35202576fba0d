"""Stacks that a test may break: a database, a Valkey and a judge of the test's own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from checker import CheckedRule, Checker
from fakes.judge import FakeJudge
from stack import ROOT, Stack

JUDGE_DELAY_S = 0.1


@pytest.fixture
def judge() -> Iterator[FakeJudge]:
    """A judge of the test's own: what it was asked is evidence."""
    with FakeJudge(delay_s=JUDGE_DELAY_S) as own:
        yield own


@pytest.fixture
def make_stack(
    fresh_database_url: str, fresh_redis_url: str, judge: FakeJudge
) -> Iterator[Callable[..., Stack]]:
    """Makes the test's stack, with settings of its own; nothing of it is started yet."""
    with ExitStack() as opened:

        def make(*, folder: Path | None = None, code: Path = ROOT, **settings: str) -> Stack:
            path = folder or Path(
                opened.enter_context(tempfile.TemporaryDirectory(prefix="tallyard-test-"))
            )
            given = {
                "database_url": fresh_database_url, "redis_url": fresh_redis_url,
                "judge_base_url": judge.url, "judge_api_key": "sk-judge",
                "judge_model": "gpt-4o", "backoff_max_s": "1", "judge_timeout_s": "30",
                "lease_s": "2", **settings,
            }
            return opened.enter_context(Stack(folder=path / "stack", code=code, **given))  # type: ignore[arg-type]

        yield make


def checked(stack: Stack, judge: FakeJudge) -> Checker:
    """A project with three rules: two share a scorer, one asks the judge about some rows."""
    project = stack.project()
    both = stack.rule(project, "Levenshtein", "ExactMatch")
    shared = stack.rule(project, "ExactMatch")
    judged = stack.rule(project, "Factuality", btql_filter="metadata.judged = true")
    checker = Checker(
        stack.database_url, project,
        rules=(
            CheckedRule(id=both, scorers=("Levenshtein", "ExactMatch")),
            CheckedRule(id=shared, scorers=("ExactMatch",)),
            CheckedRule(id=judged, scorers=("Factuality",), selects=is_judged),
        ),
        judge=judge,
    )
    checker.watch()
    return checker


def is_judged(row: dict) -> bool:
    return (row["metadata"] or {}).get("judged") is True


@pytest.fixture
def check_project() -> Callable[[Stack, FakeJudge], Checker]:
    return checked
