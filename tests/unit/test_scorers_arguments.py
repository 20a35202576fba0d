from __future__ import annotations

import pytest

from scorers.arguments import ScoringFields, arguments, as_text
from scorers.catalog import resolve
from spans.errors import MissingArgument


@pytest.mark.parametrize("value", [False, 0, "", 0.0, [], {}])
def test_a_falsy_value_is_a_value(value):
    fields = ScoringFields(output=value, expected=value)
    assert arguments(resolve("ExactMatch"), fields) == {"output": value, "expected": value}


def test_a_field_that_is_null_is_missing_and_the_error_says_where_it_was_looked_for():
    with pytest.raises(MissingArgument, match=r"Levenshtein needs 'expected'.*span's expected"):
        arguments(resolve("Levenshtein"), ScoringFields(output="a", expected=None))


@pytest.mark.parametrize("metadata", [None, {}, {"criteria": None}, "text", ["criteria"]])
def test_another_argument_is_looked_for_in_the_metadata(metadata):
    fields = ScoringFields(input="q", output="a", metadata=metadata)
    with pytest.raises(MissingArgument, match=r"ClosedQA needs 'criteria'.*metadata\.criteria"):
        arguments(resolve("ClosedQA"), fields)


def test_only_what_the_scorer_takes_is_passed():
    fields = ScoringFields(
        input="q", output="a", expected="e", metadata={"criteria": "short", "context": "c"}
    )
    assert arguments(resolve("ClosedQA"), fields) == {
        "input": "q", "output": "a", "criteria": "short"
    }


def test_an_optional_argument_is_left_out_when_it_is_null():
    spec = resolve("ValidJSON")
    assert arguments(spec, ScoringFields(output="{}", metadata={"schema": None})) == {
        "output": "{}"
    }
    assert arguments(spec, ScoringFields(output="{}", metadata={"schema": False})) == {
        "output": "{}", "schema": False
    }


def test_the_context_scorers_do_without_an_output():
    fields = ScoringFields(input="q", metadata={"context": "c"})
    assert arguments(resolve("ContextRelevancy"), fields) == {"input": "q", "context": "c"}


def test_values_are_passed_as_they_are_stored():
    output = {"b": 1, "a": [2, {"z": 0, "y": None}]}
    given = arguments(resolve("ExactMatch"), ScoringFields(output=output, expected=output))
    assert given["output"] is output


@pytest.mark.parametrize(
    ("value", "text"),
    [("é", "é"), ({"a": None}, '{"a": null}'), (True, "true"), (0, "0"), (["é"], '["é"]')],
)
def test_a_prompt_shows_json_and_not_python(value, text):
    assert as_text(value) == text
