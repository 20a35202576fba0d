"""What a Python handler returned, as JSON: scores strictly, the rest as well as it can be."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import json
import math
import pathlib
import uuid
from collections import OrderedDict, defaultdict, deque
from types import SimpleNamespace

import pytest

from scorers.sandbox.frame_reader import answer
from scorers.sandbox.handler_scores import scores_of
from scorers.sandbox.inside.output import Output
from scorers.sandbox.inside.returned import CHANGES_MAX, NotAScore, ResultTooLarge, encoded
from scorers.sandbox.model import CodeEnd

MOST = 256 * 1024


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Place:
    line: int
    why: object = None


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no")


class Scalar:
    """A number of another library, such as numpy's."""

    def __init__(self, value):
        self.value = value

    def item(self):
        return self.value

    tolist = item


class Large:
    """An array of another library, whose list would take up much more memory."""

    size = 10**9

    def tolist(self):
        raise AssertionError("must not be made")


class OutOfMemory:
    def as_dict(self):
        raise MemoryError


class Sized:
    size = 10**9

    def as_dict(self):
        return {"size": self.size, "why": math.nan}


class Model:
    def model_dump(self):
        return {"score": 0.5, "metadata": {"n": Scalar(2)}}


class Exits:
    def __iter__(self):
        raise SystemExit

    tolist = __iter__


def stored(value, most=MOST):
    """The scores as they are stored, and the lines that say what was changed."""
    body, changes = encoded(value, most)
    assert len(body) <= most
    found = answer(body)
    assert found.ended is CodeEnd.OK, found.detail
    read = scores_of(found.value, name="mine")
    return read.scores, [*changes, *read.changes]


def beside(value, most=MOST):
    """The metadata's field `m` if the handler returns `value` there, and the lines about it."""
    (score,), changes = stored({"score": 0.5, "metadata": {"m": value, "sound": 1}}, most)
    assert score.value == 0.5
    return score.metadata.get("m"), changes


def holding_itself():
    one = {"name": "one"}
    one["list"] = [one]
    return one


def nested(depth):
    value = 1
    for _ in range(depth):
        value = {"x": value}
    return value


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("é😀", "é😀"), (True, True), (2**53, 2**53), (1e300, 1e300), ((1, 2), [1, 2]),
        ({3, 1, 2}, [1, 2, 3]), (frozenset("a"), ["a"]), (deque([1]), [1]),
        (datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), "2026-01-02T00:00:00+00:00"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (datetime.timedelta(days=1), "1 day, 0:00:00"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"), (pathlib.Path("/a"), "/a"),
        (decimal.Decimal("0.1"), 0.1), (fractions.Fraction(1, 4), 0.25),
        (Colour.RED, "red"), (Level.HIGH, 3), (Place(1), {"line": 1, "why": None}),
        (Scalar([1, 2]), [1, 2]), (Model(), {"score": 0.5, "metadata": {"n": 2}}),
        (OrderedDict(a=1), {"a": 1}), (defaultdict(list, a=[]), {"a": []}),
        ({1: "a", None: "b", False: "c", 0.5: "d", (1, 2): "e"},
         {"1": "a", "null": "b", "false": "c", "0.5": "d", "(1, 2)": "e"}),
    ],
)  # fmt: skip
def test_what_has_a_plain_form_is_stored_in_it(given, kept):
    assert beside(given)[0] == kept


@pytest.mark.parametrize(
    ("given", "kept", "why"),
    [
        (math.nan, None, "metadata.m is nan, which JSON has no form for: null is stored"),
        (-math.inf, None, "metadata.m is -inf"), (Scalar(math.nan), None, "metadata.m is nan"),
        (decimal.Decimal("NaN"), None, "metadata.m is nan"),
        ([1, [math.nan]], [1, [None]], "metadata.m[1][0] is nan"),
        ({"a": {"b": math.inf}}, {"a": {"b": None}}, "metadata.m.a.b is inf"),
        (2**53 + 1, str(2**53 + 1), "metadata.m is an integer beyond 2**53"),
        (10**5000, None, "metadata.m cannot be read (ValueError)"),
        (b"\xff\0a", "\\xff\ufffda", "metadata.m is bytes"),
        ("a\0b", "a\ufffdb", "metadata.m has characters that cannot be stored"),
        ("\ud800", "\ufffd", "metadata.m has characters that cannot be stored"),
        (1j, "1j", "metadata.m is a complex"),
        (len, "<built-in function len>", "metadata.m is a"),
        (Place, f"{Place}", "metadata.m is a type"),
        ((each for each in "ab"), None, "metadata.m is a generator"),
        (Unprintable(), None, "metadata.m cannot be read (RuntimeError)"),
        (Exits(), None, "metadata.m cannot be read (SystemExit)"),
        ({Unprintable(), 1}, None, "metadata.m cannot be read (RuntimeError)"),
        (holding_itself(), {"name": "one", "list": [None]},
         "metadata.m.list[0] contains itself"),
        ({"1": 1, 1: 2}, {"1": 2}, "metadata.m.1 has two values: the last one is stored"),
        ({"a": "x" * 300_000}, None, "metadata does not fit into the result (result_bytes)"),
        (["x"] * 1_000_000, None, "metadata does not fit into the result (result_bytes)"),
        ("é" * 200_000, None, "metadata does not fit into the result (result_bytes)"),
        (b"\xff" * 300_000, None, "metadata does not fit into the result (result_bytes)"),
        (set(range(300_000)), None, "metadata does not fit into the result (result_bytes)"),
        (Large(), None, "metadata does not fit into the result (result_bytes)"),
        (OutOfMemory(), None, "metadata does not fit into the result (result_bytes)"),
        (Sized(), {"size": 10**9, "why": None}, "metadata.m.why is nan"),
    ],
    ids=[*range(28)],
)  # fmt: skip
def test_what_has_no_form_in_json_costs_itself_alone_and_a_line_says_so(given, kept, why):
    found, changes = beside(given)
    if isinstance(found, str) and kept is None:
        assert found.startswith("<generator object")
    else:
        assert found == kept
    assert [each for each in changes if each.startswith(why)], changes


def test_the_same_value_twice_is_no_circle():
    shared = [1]
    assert beside([shared, shared]) == ([[1], [1]], [])


def test_what_is_nested_too_deeply_is_cut_there():
    found, changes = beside(nested(5000))
    assert json.dumps(found).count("x") == 23
    assert changes[0].endswith("is nested more than 24 deep: null is stored")


def test_many_changes_are_counted():
    _, changes = beside([math.nan] * 1000)
    assert len(changes) == CHANGES_MAX + 1
    assert changes[-1] == f"{1000 - CHANGES_MAX} more changes"


def test_of_several_scores_each_keeps_the_metadata_that_fits():
    given = [
        {"name": "a", "score": 0.1, "metadata": {"x": "x" * 600}},
        {"name": "b", "score": 0.2, "metadata": {"x": "x" * 600}},
        {"name": "c", "score": None, "metadata": {"x": math.nan}},
    ]
    scores, changes = stored(given, most=1024)
    assert [(each.name, each.value) for each in scores] == [("a", 0.1), ("b", 0.2), ("c", None)]
    assert [bool(each.metadata) for each in scores] == [True, False, True]
    assert [each.partition(" ")[0] for each in changes] == ["[1].metadata", "[2].metadata.x"]


@pytest.mark.parametrize(
    ("given", "value"),
    [
        (Scalar(0.25), 0.25), (decimal.Decimal("0.25"), 0.25), (fractions.Fraction(1, 4), 0.25),
        (Model(), 0.5), (SimpleNamespace(score=0.25), 0.25),
        ({"score": Scalar(True)}, 1.0), ((0.25,), 0.25), (None, None),
        (1.0000000000000002, 1.0),
    ],
)  # fmt: skip
def test_scores_of_other_libraries_are_read(given, value):
    (score,), changes = stored(given)
    assert (score.value, changes) == (value, [])


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (math.nan, "the score is nan"),
        ({"score": math.inf, "metadata": {}}, "the score is inf"),
        ([{"name": "a", "score": 1}, {"name": "b", "score": math.nan}],
         "the score of 'b' is nan"),
        ({"score": {"score": 1}}, "the score is a dict"), ([[0.5]], "the score is a list"),
        ({1}, "not set"), (b"1", "not bytes"), (object(), "not object"), (Model, "not type"),
        (1j, "not complex"),
        (Scalar(math.nan), "the score is nan"), ({"score": Scalar({1})}, "is a set"),
    ],
)  # fmt: skip
def test_a_value_that_is_no_score_is_an_error_that_names_it(given, why):
    with pytest.raises(NotAScore, match=why):
        encoded(given, MOST)


def test_scores_that_alone_are_too_large_are_an_error():
    with pytest.raises(ResultTooLarge):
        encoded("x" * 2000, 1024)


def test_a_line_of_ours_stands_below_the_output_and_takes_its_place_if_it_must():
    output = Output(20)
    output.write(b"printed")
    output.note("changed")
    assert output.take() == (b"printed\n[changed]\n", 0)
    output.write(b"x" * 25)
    output.note("changed")
    kept, dropped = output.take()
    assert (kept, dropped) == (b"x" * 9 + b"\n[changed]\n", 16)
