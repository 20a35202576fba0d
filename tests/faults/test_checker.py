"""The checker reports each kind of damage. `test_mutants.py` runs it on whole mutants."""

from __future__ import annotations

from collections.abc import Callable

from checker import Checker, connect
from fakes.judge import FakeJudge
from load import span
from stack import Stack

ONE = "subject_id = 'r1' and scorer = 'Levenshtein'"

# Damage to the database, and how the checker tells it.
DAMAGE = {
    "delete from span where id = 'r1'": "is not there",
    "update span set output = '\"9\"' where id = 'r1'": "does not hold",
    "update span set id = 'ghost' where id = 'r1'": "was never sent",
    f"delete from outcome where {ONE}": "no outcome of Levenshtein",
    f"update outcome set state = 'pending' where {ONE}": "not final",
    f"update outcome set state = 'superseded' where {ONE}": "its content is the present one",
    f"update outcome set state = 'errored', error_class = 'timeout' where {ONE}": "timeout",
    f"update outcome set run_ms = 0 where {ONE}": "what is final never changes",
    f"update outcome set owner = 'someone' where {ONE}": "still leased",
    f"update outcome set origin_id = gen_random_uuid() where {ONE}": "nobody asked for it",
    "update outbox set matched_at = null": "never matched",
    "update outbox set matched_at = now()": "matched twice",
    "delete from span where context ->> 'scorer' = 'Levenshtein'": "no score span",
    "update span set id = 'other' where context ->> 'scorer' = 'Factuality'":
        "belongs to no present outcome",
    "update span set context = context || '{\"outcome_id\": \"x\"}' where context is not null":
        "its score span is x's",
    "update span set computed_scores = null, computed_by = null": "shows the scores []",
    "update span set computed_scores = computed_scores || '{\"Levenshtein\": 0.5}' "
    "where computed_scores is not null": "another Levenshtein",
    "update outcome set fence = 0 where queue = 'judge'": "calls of the judge",
    "update outcome set scores = '[{\"name\": \"ExactMatch\", \"score\": 0}]' "
    "where scorer = 'ExactMatch'": "its score is of other content",
}
COPY_OF_AN_OUTCOME = f"""
    create temporary table copied on commit drop as select * from outcome where {ONE};
    update copied set id = gen_random_uuid();
    insert into outcome select * from copied"""


def test_the_checker_tells_every_kind_of_damage(
    make_stack: Callable[..., Stack], check_project: Callable[..., Checker], judge: FakeJudge
) -> None:
    stack = make_stack()
    stack.start("api", "match", "judge", "beat")
    checker = check_project(stack, judge)
    events = [span("r1", metadata={"judged": True}), span("r2")]
    request = checker.log.send(events)
    stack.insert(checker.project, *events)
    checker.log.acknowledge(request)
    stack.wait_until(checker.is_quiet, deadline_s=30, what="quiet")
    checker.assert_holds()

    damages = {**DAMAGE, COPY_OF_AN_OUTCOME: "for the one key"}
    found = {damage: violations_after(checker, damage) for damage in damages}

    missed = [
        f"{damage}: {found[damage]}" for damage, told in damages.items()
        if not any(told in violation for violation in found[damage])
    ]
    assert not missed
    checker.assert_holds()


def violations_after(checker: Checker, damage: str) -> list[str]:
    """What the checker says of this damage, which is then undone."""
    with connect(checker.database_url) as connection:
        with connection.transaction(force_rollback=True):
            connection.execute(damage)
            checker.connection = connection
            found = checker.violations()
        checker.connection = None
    return found
