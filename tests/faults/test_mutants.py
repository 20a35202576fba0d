"""The checker finds each mutant: a Tallyard that breaks a promise on purpose.

A mutant is a copy of our tree with one text replaced; its processes run in that folder and
import from there. Each scenario also runs unchanged, and then the checker has no complaint.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from checker import CheckedRule, Checker, connect, number
from fakes.judge import FakeJudge
from load import span
from stack import Stack
from zombies import judge_zombie

ROOT = Path(__file__).parents[2]
ROOMS = (
    "api", "automations", "btql", "flows", "ops", "rules", "scorers", "spans", "store",
    "wiring", "workers",
)

NO_FENCE = (
    "store/scoring/ledger.py",
    'from outcome where {OUTCOMES.held("held")}',
    "from outcome where outcome.subject_seq = held.subject_seq",
)
KEYED_BY_THE_ROW = (
    "store/postgres/row_views.py",
    "            content_xact=content_xact,\n",
    "            content_xact=xact,\n",
)
EARLY_ACK = (
    "flows/logs/group_commit.py",
    "        return await answer\n",
    "        return IngestAnswer(\n"
    "            row_ids=tuple(write.key.id for write in request.writes), xact=1)\n",
)


@pytest.fixture
def mutate(tmp_path: Path) -> Callable[..., Path]:
    """Makes the folder of a mutant's code; of the code as it is if there is no mutant."""

    def apply(mutant: tuple[str, str, str] | None) -> Path:
        if mutant is None:
            return ROOT
        file, old, new = mutant
        for room in ROOMS:
            shutil.copytree(
                ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__")
            )
        text = (tmp_path / file).read_text()
        assert text.count(old) == 1, f"{file} has changed: the mutant needs another text"
        (tmp_path / file).write_text(text.replace(old, new))
        return tmp_path

    return apply


def test_a_late_result_without_the_fence_is_found_out(
    make_stack: Callable[..., Stack], judge: FakeJudge, mutate: Callable[..., Path]
) -> None:
    checker = judge_zombie(make_stack(lease_s="1", code=mutate(NO_FENCE)), judge)

    assert any("recorded by" in violation for violation in checker.violations())


@pytest.mark.parametrize("mutant", [None, KEYED_BY_THE_ROW], ids=["as it is", "by the row"])
def test_a_row_that_is_matched_twice_has_one_outcome_unless_any_change_makes_another(
    make_stack: Callable[..., Stack], mutate: Callable[..., Path],
    mutant: tuple[str, str, str] | None,
) -> None:
    stack = make_stack(code=mutate(mutant))
    stack.start("api", "match", "beat")
    project = stack.project()
    rule = stack.rule(project, "ExactMatch")
    checker = Checker(
        stack.database_url, project, rules=(CheckedRule(id=rule, scorers=("ExactMatch",)),)
    )
    checker.watch()
    # Finished, open again, finished again, with the same content all the time.
    for event in (
        span("one"),
        {"id": "one", "metrics": {"end": None}, "_is_merge": True},
        {"id": "one", "metrics": {"end": 2.0}, "_is_merge": True},
    ):
        request = checker.log.send([event])
        stack.insert(project, event)
        checker.log.acknowledge(request)
        stack.wait_until(checker.is_quiet, deadline_s=30, what="quiet")

    assert number(stack.database_url, "select count(*) from match_record") == 2
    if mutant is None:
        checker.assert_holds()
    else:
        assert any("never had" in violation for violation in checker.violations())


@pytest.mark.parametrize("mutant", [None, EARLY_ACK], ids=["as it is", "early ack"])
def test_an_api_killed_before_its_commit_has_not_answered_unless_it_answers_early(
    make_stack: Callable[..., Stack], mutate: Callable[..., Path],
    mutant: tuple[str, str, str] | None,
) -> None:
    stack = make_stack(code=mutate(mutant))
    stack.start("api")
    project = stack.project()
    checker = Checker(stack.database_url, project, rules=())
    checker.watch()
    log_one = threading.Thread(target=log_or_be_cut_off, args=(stack, checker))

    with connect(stack.database_url) as holder, holder.transaction():
        holder.execute("lock table outbox in share row exclusive mode")
        log_one.start()
        stack.wait_until(
            lambda: number(
                stack.database_url,
                "select count(*) from pg_stat_activity where datname = current_database() "
                "and wait_event_type = 'Lock'",
            ),
            deadline_s=30, what="the API to wait for its commit",
        )
        if mutant:
            stack.wait_until(
                lambda: checker.log.acknowledged, deadline_s=30, what="the early answer"
            )
        stack.kill("api")
        log_one.join(30)
    stack.wait_until(
        lambda: not number(
            stack.database_url,
            "select count(*) from pg_stat_activity where application_name like 'tallyard %%' "
            "and datname = current_database() and state <> 'idle'",
        ),
        deadline_s=30, what="PostgreSQL to notice the death",
    )

    if mutant is None:
        assert not checker.log.acknowledged
        checker.assert_holds()
    else:
        assert any("is not there" in violation for violation in checker.violations())


def log_or_be_cut_off(stack: Stack, checker: Checker) -> None:
    request = checker.log.send([span("one")])
    try:
        stack.insert(checker.project, span("one"))
    except httpx2.TransportError:
        return
    checker.log.acknowledge(request)
