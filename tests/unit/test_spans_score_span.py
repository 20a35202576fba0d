"""What a score span keeps of a run: the names of its arguments, and the judge's prompt."""

from __future__ import annotations

import uuid

import pytest

from spans.ids import ProjectId, RowSeq, Xact
from spans.json import Json, JsonObject
from spans.outcome import Errored, Failure, Verdict, verdict_of
from spans.row import RowKey, project_logs
from spans.score_span import PROMPT_CHARACTERS_MAX, argument_names, score_span_context
from spans.scoring import Score, ScoringResult
from spans.work import Subject

METADATA: JsonObject = {"user": ["u"], "a,b": 1, "input": "hidden by the column"}
VIEW: JsonObject = {
    "id": "row", "input": {"q": 1}, "output": "said", "expected": None, "metadata": METADATA,
    "tags": ["t"],
}
SUBJECT = Subject(
    key=RowKey(project_logs(ProjectId(uuid.UUID(int=1))), VIEW["id"]), seq=RowSeq(1),
    span_id="s", root_span_id="s", xact=Xact(1), content_xact=Xact(1), trigger_xact=Xact(1),
    has_base=True, ended_at=1.0, view=VIEW,
)


def scored(*prompt: JsonObject) -> Verdict:
    result = ScoringResult(
        scores=(Score(name="s", value=1),), arguments={}, prompt=prompt
    )
    return verdict_of(result, started_at=1, run_ms=1)


def test_arguments_that_the_row_holds_are_known_by_their_names_in_order() -> None:
    arguments = {
        "output": VIEW["output"], "input": VIEW["input"], "id": VIEW["id"],
        "user": METADATA["user"], "nothing": None, "expected": None,
        "metadata": METADATA, "tags": VIEW["tags"],
    }

    names = argument_names(SUBJECT, arguments)

    assert names == "output,input,id,user,nothing,expected,metadata,tags"


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"output": "said otherwise"},
        {"output": VIEW["output"], "trace": [1]},
        {"a,b": METADATA["a,b"]},
        {"input": METADATA["input"]},
    ],
)
def test_arguments_that_no_names_tell_are_to_be_stored(arguments: dict[str, Json]) -> None:
    assert argument_names(SUBJECT, arguments) is None


def test_the_prompt_is_kept_with_long_messages_cut_in_their_middle() -> None:
    short: JsonObject = {"role": "system", "content": "Judge."}
    long = "a" * PROMPT_CHARACTERS_MAX + "b" * 7 + "c" * 3

    context = score_span_context(scored(short, {"role": "user", "content": long}))

    half = PROMPT_CHARACTERS_MAX // 4   # a message's share is half
    left_out = len(long) - 2 * half
    assert context == {"prompt": [short, {
        "role": "user",
        "content": "a" * half + f"\n[{left_out} characters left out]\n"
                   + "a" * (half - 10) + "b" * 7 + "c" * 3,
    }]}


def test_a_prompt_of_many_messages_keeps_no_more_than_a_prompt_of_one() -> None:
    prompt: list[JsonObject] = [{"role": "user", "content": "x" * 2000} for _ in range(50)]

    context = score_span_context(scored(*prompt))

    assert context is not None
    assert len(str(context["prompt"])) < PROMPT_CHARACTERS_MAX * 1.5


def test_a_run_without_a_prompt_has_nothing_to_keep() -> None:
    failure = Failure(error_class="timeout", message="m")

    assert score_span_context(scored()) is None
    assert score_span_context(Errored(failure=failure, started_at=1, run_ms=1)) is None
