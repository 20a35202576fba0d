from __future__ import annotations

import itertools
import json
import math
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorers.arguments import ScoringFields
from scorers.catalog import resolve
from scorers.heuristics.in_process import cost, score_in_process
from scorers.heuristics.list_contains import best_pairs
from scorers.results import MESSAGE_CHARACTERS_MAX, failure, result
from scorers.unfit import unread
from spans.errors import BadResult, MissingArgument, ScorerFailed
from spans.scoring import Score


def score(name, output, expected=None, **metadata):
    fields = ScoringFields(output=output, expected=expected, metadata=metadata)
    (only,) = score_in_process(resolve(name), fields).scores
    assert only.name == name
    return only.value


@pytest.mark.parametrize(
    ("name", "output", "expected", "value"),
    [
        ("ExactMatch", "a", "a", 1.0),
        ("ExactMatch", {"a": 1, "b": 2}, {"a": 1, "b": 2}, 1.0),
        ("ExactMatch", {"a": 1, "b": 2}, {"b": 2, "a": 1}, 0.0),  # the order of keys counts
        ("ExactMatch", False, False, 1.0),
        ("Levenshtein", "", "", 1.0),
        ("Levenshtein", "kitten", "sitting", 1 - 3 / 7),
        ("Levenshtein", 12, "12", 1.0),
        ("NumericDiff", 0, 0, 1.0),
        ("NumericDiff", 1, 3, 0.5),
        ("NumericDiff", -1, 1, 0.0),
        ("JSONDiff", {"a": [1, 2]}, '{"a": [1, 2]}', 1.0),
        ("ListContains", [], [], 1.0),
        ("ListContains", [], ["a"], 0.0),
        ("ListContains", ["b", "a"], ["a", "b"], 1.0),
        ("ListContains", ["a", "b"], ["a"], 0.5),
        ("ListContains", ["ab", "a"], ["a", "ac"], 0.75),
        ("ValidJSON", "{}", None, 1.0),
        ("ValidJSON", "{", None, 0.0),
        ("ValidJSON", [], None, 1.0),
    ],
)
def test_scores_are_those_of_autoevals(name, output, expected, value):
    assert score(name, output, expected) == pytest.approx(value)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"required": ["a"]}, 1.0),
        ({"required": ["b"]}, 0.0),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}, 1.0),
        ({"$defs": {"o": {"type": "object"}}, "$ref": "#/$defs/o"}, 1.0),
        (False, 0.0),
    ],
)
def test_valid_json_heeds_the_schema_in_the_metadata(schema, value):
    assert score("ValidJSON", '{"a": 1}', schema=schema) == value


def test_a_schema_never_makes_the_worker_ask_an_address():
    asked = []

    class Inner(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Inner) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        schema = {"$ref": f"http://127.0.0.1:{server.server_port}/inner"}
        with pytest.raises(ScorerFailed, match="Unresolvable"):
            score("ValidJSON", "{}", schema=schema)
        server.shutdown()
    assert asked == []


@pytest.mark.parametrize(
    ("schema", "reason"),
    [({"type": "nope"}, "SchemaError"), ({"$ref": "#"}, "RecursionError"),
     ({"$ref": "file:///etc/hostname"}, "Unresolvable"), ("text", "SchemaError")],
)
def test_a_schema_that_cannot_be_used_is_the_scorers_failure(schema, reason):
    with pytest.raises(ScorerFailed, match=f"ValidJSON raised .*{reason}"):
        score("ValidJSON", "{}", schema=schema)


def test_what_a_scorer_raises_names_the_scorer_and_the_exception():
    with pytest.raises(ScorerFailed, match="ValidJSON raised SchemaError: 5 is not valid"):
        score("ValidJSON", "{}", schema={"type": 5})


@pytest.mark.parametrize(
    ("name", "output", "expected", "said"),
    [
        ("NumericDiff", "1", 3, "compares numbers, and the span's output is a text"),
        ("NumericDiff", 1, "", "compares numbers, and the span's expected is an empty text"),
        ("NumericDiff", [], 1, "compares numbers, and the span's output is an empty list"),
        ("NumericDiff", {}, 1, "compares numbers, and the span's output is an object"),
        ("ListContains", 3, ["a"], "compares lists, and the span's output is a number"),
        ("ListContains", ["a"], False, "and the span's expected is true or false"),
        ("ListContains", {"a": 1}, ["a"], "compares lists, and the span's output is an object"),
        ("ListContains", ["a"], [None], "one of the span's expected is null"),
    ],
)
def test_a_value_that_cannot_be_compared_is_named(name, output, expected, said):
    with pytest.raises(ScorerFailed) as failed:
        score(name, output, expected)
    assert said in str(failed.value)
    assert "Error" not in str(failed.value)


@pytest.mark.parametrize(
    ("output", "expected", "value"),
    [([], 0, 0), (0, {}, 0), ([1], True, 0), ({}, 1.5, 0), ([1], "[1]", 1), ({}, {}, 1),
     (1, 1, 1), (False, 0, 0), ("", "", 1), ("[]", [], 1)],
)
def test_a_list_equals_no_number(output, expected, value):
    assert score("ExactMatch", output, expected) == value


DEGENERATE = ["", " ", [], {}, 0, False, "a", 1.5, [[]], [None], {"a": None}, "null", "{}"]


@pytest.mark.parametrize(
    "name",
    ["ExactMatch", "Levenshtein", "NumericDiff", "JSONDiff", "ValidJSON", "ListContains"],
)
def test_no_error_is_only_what_python_says(name):
    for output, expected in itertools.product(DEGENERATE, DEGENERATE):
        try:
            score(name, output, expected)
        except ScorerFailed as failed:
            assert "the span's" in str(failed), (output, expected)  # noqa: PT017


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("Faithfulness", ZeroDivisionError(), "the answer makes no statement"),
        ("AnswerCorrectness", ZeroDivisionError(), "neither the answer nor the expected one"),
        ("ContextRelevancy", ZeroDivisionError(), "the span's metadata.context is empty"),
        ("AnswerSimilarity", ZeroDivisionError(), "an embedding has only zeros"),
        ("Factuality", KeyError("Z"), "it has no 'Z'"),
        ("Factuality", AssertionError(), "it has another form"),
        ("Factuality", ValueError("no tool call"), "no tool call"),
    ],
)
def test_an_answer_that_cannot_be_read_says_what_it_lacks(name, error, said):
    assert said in unread(resolve(name), error)


def test_a_missing_argument_is_found_before_the_scorer_runs():
    with pytest.raises(MissingArgument, match="expected"):
        score("JSONDiff", {"a": 1}, None)


def test_nan_is_no_score():
    with pytest.raises(BadResult, match="JSONDiff returned nan"):
        score("JSONDiff", "[NaN]", "[1]")


class Gave:
    def __init__(self, score, metadata=None):
        self.score = score
        self.metadata = metadata


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.01, 1.01, "1", [], 10**400])
def test_a_value_outside_0_to_1_is_no_score(value):
    with pytest.raises(BadResult, match="a score is a number in"):
        result(resolve("Sql"), {}, Gave(value))


def test_a_scorer_that_declines_gives_a_score_without_value():
    assert result(resolve("Sql"), {}, Gave(None)).scores == (Score(name="Sql", value=None),)


def test_metadata_is_json_whatever_the_scorer_put_there():
    deep: list = []
    for _ in range(200):
        deep = [deep]
    metadata = {1: (1, 2), "nan": math.nan, "object": object, "deep": deep, "long": 10**40}
    kept = result(resolve("Sql"), {}, Gave(0.5, metadata)).scores[0].metadata
    assert kept["1"] == [1, 2]
    assert kept["nan"] is None
    orjson.dumps(kept)


def test_what_postgresql_cannot_hold_is_replaced():
    metadata = {"a\0": ["b\0", "\ud800", "é😀"]}
    kept = result(resolve("Sql"), {}, Gave(0.5, metadata)).scores[0].metadata
    assert kept == {"a\ufffd": ["b\ufffd", "\ufffd", "é😀"]}
    assert str(failure(resolve("Sql"), ValueError("\0"))) == "Sql raised ValueError: \ufffd"


def test_a_long_message_is_cut():
    assert len(str(failure(resolve("Sql"), ValueError("x" * 10**6)))) == MESSAGE_CHARACTERS_MAX


@given(
    st.integers(1, 6).flatmap(
        lambda columns: st.lists(
            st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]) | st.floats(0, 1),
                     min_size=columns, max_size=columns),
            min_size=1, max_size=6,
        )
    )
)
def test_no_other_pairing_is_more_similar(similarities):
    pairs = best_pairs(similarities)
    rows, columns = len(similarities), len(similarities[0])
    assert len(pairs) == len(dict(pairs)) == len({c for _, c in pairs}) == min(rows, columns)
    wide = similarities if rows <= columns else list(zip(*similarities, strict=True))
    best = max(
        sum(wide[row][column] for row, column in enumerate(chosen))
        for chosen in itertools.permutations(range(max(rows, columns)), min(rows, columns))
    )
    assert sum(similarities[r][c] for r, c in pairs) == pytest.approx(best)


def test_the_cost_of_levenshtein_is_characters_times_characters():
    fields = ScoringFields(output="a" * 1000, expected="b" * 2000)
    assert cost(resolve("Levenshtein"), fields) == 2e6


def test_a_schema_whose_checking_may_never_end_has_no_bound():
    fields = ScoringFields(output="{}", metadata={"schema": {"items": [{"pattern": "(a+)+$"}]}})
    assert cost(resolve("ValidJSON"), fields) == math.inf


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("Levenshtein", "ab" * 5000),
        ("JSONDiff", {str(i): "text" * 5 for i in range(2000)}),
        ("JSONDiff", list(range(5_000))),
        ("JSONDiff", ["é" * 3000]),
        ("JSONDiff", json.dumps({"a": ["é" * 3000]})),
        ("ExactMatch", {str(i): i for i in range(20_000)}),
        ("ValidJSON", json.dumps(list(range(50_000)))),
        ("ValidJSON", [{"a": 1, "b": "text"}] * 2000),
        ("ListContains", ["same"] * 50),
        ("ListContains", ["long text" * 100] * 5),
    ],
)
@pytest.mark.no_cover   # tracing its lines would be part of its time
def test_a_unit_of_cost_is_never_much_more_work_than_in_levenshtein(name, output):
    schema = {"items": {"type": "object", "properties": {"a": {"minimum": 0}}}}
    metadata = {"schema": schema}
    fields = ScoringFields(output=output, expected=output, metadata=metadata)
    other = ScoringFields(output=output, expected=str(output)[::-1])
    text = ScoringFields(output="ab" * 2000, expected="ba" * 2000)
    for each in (fields, other):
        # The most that was seen is 6 times as much.
        assert s_per_unit(name, each) < 12 * s_per_unit("Levenshtein", text)


def s_per_unit(name, fields):
    """Processor time for a unit of cost, seconds: the least of four runs, since a garbage
    collection may fall into the others."""
    taken_s = []
    for _ in range(4):
        begin = time.thread_time()
        score_in_process(resolve(name), fields)
        taken_s.append(time.thread_time() - begin)
    return min(taken_s) / cost(resolve(name), fields)
