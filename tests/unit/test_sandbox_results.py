"""Scores from a handler's return value, and the parsing of a child's messages."""

from __future__ import annotations

import pytest

from scorers.sandbox.frame_reader import HEADER, answer, readable, split
from scorers.sandbox.handler_scores import scores_of
from scorers.sandbox.model import CodeEnd
from spans.errors import BadResult
from spans.scoring import Score


@pytest.mark.parametrize(
    ("value", "score"),
    [
        (0.25, Score(name="mine", value=0.25)),
        (1, Score(name="mine", value=1.0)),
        (True, Score(name="mine", value=1.0)),
        (False, Score(name="mine", value=0.0)),
        (None, Score(name="mine", value=None)),
        ({"score": 0.5}, Score(name="mine", value=0.5)),
        ({"score": None, "name": None, "metadata": None}, Score(name="mine", value=None)),
        (
            {"score": 0, "name": "theirs", "metadata": {"why": ["x"]}},
            Score(name="theirs", value=0.0, metadata={"why": ["x"]}),
        ),
    ],
)
def test_a_number_nothing_or_an_object_is_one_score(value, score):
    assert scores_of(value, name="mine").scores == (score,)


def test_a_list_gives_each_of_its_scores_in_order():
    value = [{"name": "a", "score": 1}, 0.5]
    assert scores_of(value, name="mine").scores == (
        Score(name="a", value=1.0), Score(name="mine", value=0.5),
    )  # fmt: skip


@pytest.mark.parametrize(
    "value",
    [
        "0.5", 1.5, -0.1, 7, [], [[0.5]], {}, {"name": "a"}, {"score": "1"}, {"score": [1]},
        [0.5, 0.5], [0.5] * 101, float("nan"), float("inf"), [0.5, {"name": "b", "score": 2}],
    ],
)  # fmt: skip
def test_anything_else_is_no_score(value):
    with pytest.raises(BadResult):
        scores_of(value, name="mine")


@pytest.mark.parametrize(
    ("beside", "kept", "changes"),
    [
        ({"cost": 0}, {"metadata": {"cost": 0}}, ["cost is stored as metadata.cost"]),
        ({"cost": 0, "metadata": {"cost": 1}}, {"metadata": {"cost": 1}},
         ["cost stands in metadata too: that one is stored"]),
        ({"error": "no answer", "metadata": {"a": 1}},
         {"metadata": {"a": 1, "error": "no answer"}}, ["error is stored as metadata.error"]),
        ({"error": None}, {}, []),
        ({"metadata": ["x"]}, {"metadata": {"metadata": ["x"]}},
         ["metadata is no object: it is stored as metadata.metadata"]),
        ({"metadata": "x"}, {"metadata": {"metadata": "x"}},
         ["metadata is no object: it is stored as metadata.metadata"]),
        ({"name": ""}, {}, []),
        ({"name": "x" * 101}, {"name": "x" * 100}, [f"the score is named '{'x' * 100}'"]),
        ({"name": "a\nb"}, {"name": "a b"}, ["the score is named 'a b'"]),
        ({"name": "\n"}, {}, ["the score is named 'mine'"]),
        ({"name": 3}, {"name": "3"}, ["the score is named '3'"]),
    ],
)  # fmt: skip
def test_what_stands_beside_a_score_never_costs_it(beside, kept, changes):
    found = scores_of({"score": 0.5, **beside}, name="mine")
    assert found.scores == (Score(**{"name": "mine", "value": 0.5, **kept}),)
    assert len(found.changes) == len(changes)
    assert all(line in said for line, said in zip(changes, found.changes, strict=True))


def test_a_bad_value_among_several_scores_is_named_by_its_place():
    with pytest.raises(BadResult, match=r"\[1\]\.score: 2 lies outside"):
        scores_of([0.5, {"name": "b", "score": 2}], name="mine")


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"1", b'{"result":NaN}', b'{"result":-Infinity}',
        b'{"result":1e999}',
        b'{"result":1,"id":"x"}', b'{"results":1}', b'{"error":"x"}',
        b'{"result":1}{"result":1}',
        b'{"error":{"kind":"exception"}}', b'{"error":{"kind":"ok","message":""}}',
        b'{"error":{"kind":["exception"],"message":""}}', b'{"result":"\xff"}',
        rb'{"result":"\ud800"}', rb'{"result":"\u0000"}', rb'{"result":{"\u0000":1}}',
        b'{"result":9007199254740993}', b'{"result":1%s}' % (b"0" * 40),
        b'{"result":-1%s}' % (b"0" * 4000), b'{"result":%s1%s}' % (b"[" * 33, b"]" * 33),
        b'{"result":%s%s}' % (b"[" * 100_000, b"]" * 100_000),
    ],
)  # fmt: skip
def test_what_is_not_a_result_of_the_agreed_form_is_a_bad_one(body):
    assert answer(body).ended is CodeEnd.BAD_RESULT


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"result":null}', None),
        (b'{"result":9007199254740992}', 2**53),
        (b'{"result":1e300}', 1e300),
        (b'{"result":%s1%s}' % (b"[" * 32, b"]" * 32), None),
    ],
)
def test_what_keeps_to_the_form_is_a_result(body, value):
    found = answer(body)
    assert found.ended is CodeEnd.OK
    if value is not None:
        assert found.value == value


def test_an_error_says_its_kind_and_its_message_without_control_characters():
    found = answer(rb'{"error":{"kind":"memory","message":"a\u001b[31mb\nc\u202e"}}')
    assert (found.ended, found.detail) == (CodeEnd.ERROR, "a\\x1b[31mb\nc\\u202e")


def test_frames_are_taken_whole_however_they_come_in():
    sent = b"".join(HEADER.pack(n, n, 3) + b"l" * n + b"abc" for n in range(3))
    buffer, frames = bytearray(), []
    for each in sent:
        buffer.append(each)
        found, problem = split(buffer, result_bytes=10, log_bytes=2, now_s=0.0)
        frames += found
        assert problem is None
    assert [(f.body, f.log, f.dropped) for f in frames] == [
        (b"abc", b"l" * n, n) for n in range(3)
    ]
    assert not buffer


@pytest.mark.parametrize(("log", "body"), [(3, 1), (0, 10**6), (2**32 - 1, 2**32 - 1)])
def test_a_frame_beyond_the_limits_is_refused_before_it_is_kept(log, body):
    good = HEADER.pack(0, 0, 1) + b"1"
    buffer = bytearray(good + HEADER.pack(0, log, body))
    frames, problem = split(buffer, result_bytes=10, log_bytes=2, now_s=0.0)
    assert [each.body for each in frames] == [b"1"]
    assert problem is not None


def test_readable_text_keeps_its_lines():
    assert readable("a\tb\nc\r\x00\x9b") == "a\tb\nc\\r\\x00\\x9b"
