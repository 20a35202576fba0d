"""The checker reports each kind of damage. `test_mutants.py` runs it on whole mutants."""

from __future__ import annotations

from collections.abc import Callable

from checker import Checker, connect
from fakes.judge import FakeJudge
from load import span
from stack import Stack

ONE = """(subject_seq, use_no) in (
    select subject_seq, use_no from shown_outcome
     where subject_id = 'r1' and scorer = 'Levenshtein')"""


def score_spans_of(scorer: str) -> str:
    return f"""(object_no, seq) in (
        select object_no, seq from shown_span where context ->> 'scorer' = '{scorer}')"""


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
    f"update outcome set subject_version = subject_version + 1 where {ONE}": "never had",
    "update scorer_use set origin_id = gen_random_uuid() where scorer = 'Levenshtein'":
        "nobody asked for it",
    "insert into outbox (object_no, xact, row_seqs, rescored) "
    "select object_no, xact, row_seqs, false from match_record": "never matched",
    "insert into match_record select * from match_record": "matched 2 times",
    "delete from match_record": "matched 0 times",
    f"delete from span where {score_spans_of('Levenshtein')}": "0 score spans, not 1",
    "insert into span select (jsonb_populate_record("
    "span, jsonb_build_object('seq', -seq, 'id', 'copy of ' || id))).* "
    "from span where scored_version is not null; "
    "insert into span_head select (jsonb_populate_record("
    "span_head, jsonb_build_object('seq', -seq))).* from span_head": "2 score spans",
    f"update span set scored_version = 1 where {score_spans_of('Factuality')}":
        "belongs to no present outcome",
    "update span set context = '{\"rule_id\": \"x\"}' where scored_version is not null":
        "its score span names",
    "update span_head set computed_scores = '{}' where computed_by is null "
    "and computed_scores is not null": "its score span shows {}",
    "update span_head set computed_scores = null, computed_by = null": "shows the scores []",
    "update span_head set computed_scores = computed_scores || '{\"Levenshtein\": 0.5}' "
    "where computed_by is not null": "another Levenshtein",
    "delete from span_score": "entry of a score, missing",
    "update span_score set value = 0.125": "entry of a score, needless",
    "update outcome set fence = 0 where queue = 'judge'": "calls of the judge",
    "update outcome set scores = '[{\"name\": \"ExactMatch\", \"score\": 0}]' "
    "where use_no in (select use_no from scorer_use where scorer = 'ExactMatch')":
        "its score is of other content",
    "alter table outcome drop constraint outcome_pkey;"
    f"insert into outcome select * from outcome where {ONE}": "for the one key",
}


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

    found = {damage: violations_after(checker, damage) for damage in DAMAGE}

    missed = [
        f"{damage}: {found[damage]}" for damage, told in DAMAGE.items()
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
