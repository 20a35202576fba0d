"""The vocabulary: what a score, an outcome and an error hold, and what they refuse."""

from __future__ import annotations

import math
import re
import uuid
from dataclasses import replace
from typing import Any

import pytest

from spans import errors
from spans.errors import (
    BadInput,
    JudgeRefused,
    RateLimited,
    StoreUnavailable,
    TallyardError,
    TransientError,
)
from spans.ids import ObjectId, ProjectId, RowSeq, RuleId, Xact, derived_id
from spans.outcome import (
    Errored,
    Failure,
    ManualOrigin,
    OriginKind,
    OutcomeKey,
    RescoreOrigin,
    RuleOrigin,
    ScorerUse,
    origin_of,
    verdict_of,
)
from spans.row import ObjectRef, ObjectType, is_finished, is_made_by_scorer, is_root
from spans.score_span import score_span_id, score_span_span_id
from spans.scoring import (
    REASON_BYTES,
    REASON_OF_BYTE,
    OutcomeState,
    Reason,
    Role,
    Score,
    ScorerRef,
    ScoringResult,
)

PROJECT = ProjectId(uuid.UUID(int=1))
USE = ScorerUse(
    origin=RuleOrigin(RuleId(uuid.UUID(int=2))), role=Role.LIVE,
    scorer=ScorerRef(kind="global", name="Levenshtein", version="0.4.1"),
)
KEY = OutcomeKey(
    object=ObjectRef(PROJECT, ObjectType.PROJECT_LOGS, ObjectId(PROJECT)), subject_id="row",
    subject_version=Xact(7), use=USE,
)
SEQ = RowSeq(2**33 + 1)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.001, 1.001, 2])
def test_a_score_outside_0_to_1_is_refused_and_nan_is_outside(value: float) -> None:
    with pytest.raises(ValueError, match=r"outside 0\.\.1"):
        Score(name="s", value=value)


@pytest.mark.parametrize("value", [0, 1, 0.0, 1.0, 0.5, None])
def test_a_score_is_0_to_1_or_nothing(value: float | None) -> None:
    assert Score(name="s", value=value).value == value


@pytest.mark.parametrize(
    ("values", "state"),
    [((0.0,), OutcomeState.COMPLETED), ((None,), OutcomeState.SKIPPED),
     ((None, 0.5), OutcomeState.COMPLETED), ((None, None), OutcomeState.SKIPPED)],
)
def test_an_outcome_is_completed_by_any_score_and_skipped_by_none(
    values: tuple[float | None, ...], state: OutcomeState
) -> None:
    scores = tuple(Score(name=f"s{n}", value=value) for n, value in enumerate(values))
    result = ScoringResult(scores=scores, arguments={})

    assert verdict_of(result, started_at=0, run_ms=0).state is state


def test_an_outcome_with_a_failure_is_errored() -> None:
    failure = Failure(error_class="timeout", message="m")

    assert Errored(failure=failure, started_at=0, run_ms=0).state is OutcomeState.ERRORED


OTHERS: dict[str, Any] = {
    "subject_id": "row2", "subject_version": Xact(8),
    "object": ObjectRef(PROJECT, ObjectType.EXPERIMENT, ObjectId(uuid.UUID(int=9))),
}
OTHER_USES: dict[str, Any] = {
    "origin": ManualOrigin(uuid.UUID(int=2)), "role": Role.SHADOW,
    "scorer": ScorerRef(kind="global", name="Levenshtein", version="0.4.2"),
}


def other_use(field: str) -> ScorerUse:
    return replace(USE, **{field: OTHER_USES[field]})


@pytest.mark.parametrize("field", OTHERS)
def test_each_part_of_its_key_makes_another_outcome(field: str) -> None:
    assert replace(KEY, **{field: OTHERS[field]}).id != KEY.id


@pytest.mark.parametrize("field", OTHER_USES)
def test_each_part_of_its_use_of_a_scorer_makes_another_outcome(field: str) -> None:
    assert replace(KEY, use=other_use(field)).id != KEY.id


def test_an_outcomes_id_is_a_function_of_its_key() -> None:
    assert replace(KEY).id == KEY.id
    # Ids stay what they are: clients keep them, and PostgreSQL computes the same.
    assert KEY.id == uuid.UUID("b1960ba9-cbc3-59cd-42bb-69bd53cf9cbd")


def test_a_score_span_is_replaced_by_that_of_the_next_version_of_the_scorer() -> None:
    newer = other_use("scorer")

    assert score_span_id(SEQ, newer) == score_span_id(SEQ, USE)
    assert score_span_span_id(SEQ, newer) == score_span_span_id(SEQ, USE)


@pytest.mark.parametrize("field", ["origin", "role"])
def test_score_spans_of_other_rules_and_roles_are_others(field: str) -> None:
    other = other_use(field)

    assert score_span_id(SEQ, other) != score_span_id(SEQ, USE)
    assert score_span_span_id(SEQ, other) != score_span_span_id(SEQ, USE)


def test_ids_of_score_spans_grow_with_the_places_of_the_rows_that_they_are_about() -> None:
    places = [RowSeq(place) for place in (1, 2, 255, 256, 2**32 - 1, 2**32, 2**62)]

    ids = [str(score_span_id(place, USE)) for place in places]

    assert ids == sorted(set(ids))
    assert re.fullmatch("[0-9a-f]{16}", score_span_span_id(SEQ, USE))
    assert score_span_span_id(SEQ, USE) != score_span_span_id(RowSeq(SEQ + 1), USE)


@pytest.mark.parametrize("kind", OriginKind)
def test_a_stored_origin_is_read_as_the_kind_that_it_was(kind: OriginKind) -> None:
    origin = origin_of(kind, uuid.UUID(int=4))

    assert (origin.kind, origin.id, origin.generation) == (kind, uuid.UUID(int=4), 0)


def test_the_generations_of_a_rescore_job_share_their_outcomes() -> None:
    first, second = (
        replace(USE, origin=RescoreOrigin(uuid.UUID(int=4), generation))
        for generation in (0, 1)
    )

    assert replace(KEY, use=first).id == replace(KEY, use=second).id


def test_derived_ids_keep_their_parts_apart() -> None:
    assert derived_id("ab", "c") != derived_id("a", "bc")
    assert derived_id("a", "") != derived_id("a")
    assert derived_id("é") == derived_id("é")


@pytest.mark.parametrize(
    ("fields", "finished"),
    [({}, False), ({"metrics": None}, False), ({"metrics": {}}, False),
     ({"metrics": {"end": None}}, False), ({"metrics": {"end": "1"}}, False),
     ({"metrics": {"end": 0}}, True), ({"metrics": {"end": 1.5, "start": 2}}, True)],
)
def test_a_span_is_finished_when_its_end_is_a_number(
    fields: dict[str, Any], finished: bool
) -> None:
    assert is_finished(fields) is finished


def test_a_root_has_no_parents() -> None:
    assert is_root({})
    assert is_root({"span_parents": None})
    assert is_root({"span_parents": []})
    assert not is_root({"span_parents": ["p"]})
    assert not is_root({"span_parents": ["p"], "span_id": "a", "root_span_id": "a"})


@pytest.mark.parametrize(
    ("attributes", "made"),
    [(None, False), ({}, False), ({"type": "llm"}, False), ({"purpose": "scorer"}, True),
     ({"type": "score"}, True), ({"type": "llm", "purpose": "scorer"}, True),
     ("scorer", False), ({"purpose": None}, False)],
)
def test_what_a_scorer_made_is_known_by_its_attributes(attributes: Any, made: bool) -> None:
    assert is_made_by_scorer({"span_attributes": attributes}) is made


def test_every_reason_has_a_byte_of_its_own() -> None:
    assert set(REASON_BYTES) == set(Reason)
    assert all(len(code) == 1 for code in REASON_BYTES.values())
    assert len(REASON_OF_BYTE) == len(Reason)
    assert all(REASON_OF_BYTE[code[0]] is reason for reason, code in REASON_BYTES.items())


def test_an_errors_class_is_its_name_in_snake_case() -> None:
    assert JudgeRefused.error_class() == "judge_refused"
    assert RateLimited("slow", retry_after_s=3).error_class() == "rate_limited"
    assert StoreUnavailable.error_class() == "store_unavailable"


def test_bad_input_says_where() -> None:
    assert str(BadInput("a list", path="tags")) == "tags: a list"
    assert str(BadInput("the body is empty")) == "the body is empty"


def test_only_transient_errors_say_when_to_come_back() -> None:
    assert RateLimited("slow", retry_after_s=3.5).retry_after_s == 3.5
    assert not [
        kind for kind in TallyardError.__subclasses__()
        if hasattr(kind("m"), "retry_after_s") and not issubclass(kind, TransientError)
    ]


def test_the_tree_of_errors_that_is_drawn_is_that_of_the_classes() -> None:
    drawn: dict[str, str] = {}
    line: list[str] = []   # the class of each level, down to the one drawn last
    for branch, name in re.findall(
        r"^ {4}([│├└─ ]*)([A-Z]\w+)(?:$| {2})", errors.__doc__ or "", re.MULTILINE
    ):
        line[len(branch) // 4:] = [name]
        if len(line) > 1:
            drawn[name] = line[-2]

    assert drawn == {
        kind.__name__: kind.__bases__[0].__name__
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, TallyardError)
        and kind is not TallyardError
    }
