"""Comparing two versions of a scorer: agreement, flips, cost; and scorers as files."""

from __future__ import annotations

import uuid

import pytest

from flows.functions.comparison import compare, difference_json
from flows.functions.invocations import read_record, result_of
from scorers.functions.file import Naming, code_function, judge_function, slug_of
from spans.errors import BadInput
from spans.ids import ObjectId, ProjectId
from spans.outcome import Errored, Failure, Verdict, verdict_of
from spans.row import ObjectRef, ObjectType, RowKey
from spans.scoring import Score, ScoringResult, Usage

PROJECT = uuid.UUID(int=7)
WHERE = ObjectRef(ProjectId(PROJECT), ObjectType.PROJECT_LOGS, ObjectId(PROJECT))
FAILED = Errored(
    failure=Failure(error_class="error", message="m"), started_at=0.0, run_ms=1.0
)


def gave(*values: float | None, calls: int = 0, **more: float) -> Verdict:
    named = {**{f"s{n}": value for n, value in enumerate(values)}, **more}
    return verdict_of(
        ScoringResult(
            scores=tuple(Score(name=name, value=value) for name, value in named.items()),
            arguments={}, usage=Usage(calls=calls, prompt_tokens=10 * calls),
        ),
        started_at=0.0, run_ms=2.0,
    )


def difference(*pairs: tuple[Verdict, Verdict]):
    rows = [RowKey(WHERE, f"row/{n}") for n in range(len(pairs))]
    return compare(rows, [old for old, _ in pairs], [new for _, new in pairs])


@pytest.mark.parametrize(
    ("old", "new", "is_same", "is_flip"),
    [
        (gave(0.4), gave(0.4), True, False),
        (gave(0.1 + 0.2), gave(0.3), True, False),
        (gave(0.1), gave(0.4), False, False),
        (gave(0.4), gave(0.5), False, True),
        (gave(0.5), gave(0.49999999999999994), True, False),
        (gave(1), gave(None), False, True),
        (gave(None), gave(None), True, False),
        (gave(1), FAILED, False, True),
        (gave(None), FAILED, False, False),
        (FAILED, FAILED, True, False),
        (gave(1, 0), gave(1, 1), False, True),
        (gave(1), gave(1, extra=1.0), False, True),
        (gave(1, 0), gave(1, 0), True, False),
    ],
)
def test_what_is_the_same_and_what_flips(old, new, is_same, is_flip):
    told = difference((old, new))
    assert (told.agreement, len(told.flips)) == (float(is_same), int(is_flip))


def test_mean_and_cost_are_of_all_rows():
    told = difference(
        (gave(0.0, calls=2), gave(0.5)), (gave(1.0), gave(1.0)), (FAILED, gave(1.0))
    )
    assert (told.rows, told.agreement, told.mean_difference) == (3, 1 / 3, 0.25)
    assert (told.before.run_ms, told.after.run_ms) == (5.0, 6.0)
    assert (told.before.calls, told.before.prompt_tokens, told.before.errors) == (2, 20, 1)
    assert (told.after.calls, told.after.errors) == (0, 0)


def test_no_rows_are_no_division():
    told = difference()
    assert (told.agreement, told.mean_difference, told.flips) == (None, None, ())


def test_links_name_the_row_safely():
    (flip,) = difference_json(difference((gave(0), gave(1))), "http://x/")["flips"]
    assert flip["link"] == f"http://x/v1/project_logs/{PROJECT}/explain?id=row%2F0"


def test_results_are_shown_as_scorers_write_them():
    assert result_of(gave(None)) is None
    assert result_of(gave(0.5)) == {"name": "s0", "score": 0.5}
    assert result_of(gave(1, None)) == [
        {"name": "s0", "score": 1}, {"name": "s1", "score": None}
    ]


def test_arguments_are_those_in_input_and_then_those_beside_it():
    asked = {
        "input": {"output": "o", "metadata": None, "other": 1, "expected": False},
        "expected": "beside", "metadata": {"a": 1}, "tags": ["t"], "stream": True,
    }
    assert read_record(asked) == {"output": "o", "expected": False, "tags": ["t"]}


def test_a_file_of_code_is_a_function():
    body = code_function("How long", ".py", "code", Naming())
    assert (body["name"], body["slug"]) == ("How long", "how-long")
    assert body["function_data"]["data"]["runtime_context"]["runtime"] == "python"
    body = code_function("x", ".mts", "code", Naming(name="Näme", slug="own"))
    assert (body["name"], body["slug"]) == ("Näme", "own")
    assert body["function_data"]["data"]["runtime_context"]["runtime"] == "node"
    with pytest.raises(BadInput, match=r"in '\.rb'"):
        code_function("x", ".rb", "code", Naming())


def test_names_come_from_the_command_then_the_file_then_its_name():
    content = {"prompt": "p", "choice_scores": {"a": 1}, "name": "In file", "slug": "in-it"}
    assert judge_function("stem", content, Naming(name="N", slug="s"))["slug"] == "s"
    assert judge_function("stem", content, Naming(name="N"))["name"] == "N"
    assert judge_function("stem", content, Naming())["slug"] == "in-it"
    bare = {"messages": [], "choice_scores": {}}
    assert judge_function("stem", bare, Naming())["name"] == "stem"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "the file is empty"),
        ([], "must hold an object"),
        ({}, "either prompt"),
        ({"prompt": "p", "messages": []}, "either prompt"),
        ({"prompt": "p", "choices": {}}, "unknown keys: choices"),
    ],
)
def test_a_file_that_describes_no_judge_is_refused(content, said):
    with pytest.raises(BadInput, match=said):
        judge_function("stem", content, Naming())


def test_slugs_are_lower_case_and_hyphens():
    assert slug_of("Is it -- Polite?") == "is-it-polite"
    assert slug_of("???") == "scorer"
