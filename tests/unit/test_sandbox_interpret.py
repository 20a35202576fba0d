"""The results of records, from what a child process sent before it failed or was killed."""

from __future__ import annotations

import pytest

from scorers.sandbox.exchange import Transcript
from scorers.sandbox.frame_reader import Frame
from scorers.sandbox.interpret import interpret
from scorers.sandbox.model import CodeEnd, Limits

LOADED = Frame(b'{"result":true}', b"", 0, 1.0)
FORGED = Frame(b'{"result":1}', b"", 0, 2.0)
ENDED = {"exit": 0}


def heard(*frames, **more):
    return Transcript(started_s=0.0, loaded=LOADED, frames=[*frames], **more)


@pytest.mark.parametrize("status", [ENDED, None], ids=["it ended", "its jail died"])
def test_nothing_of_a_child_that_broke_the_form_is_believed(status):
    said = heard(FORGED, status=status, broken="an answer of 9999999 bytes")
    (alone,) = interpret(said, 1, Limits())
    assert alone.ended is CodeEnd.BAD_RESULT
    assert interpret(said, 3, Limits()) == [None] * 3


def test_what_came_before_a_jail_died_stays():
    found = interpret(heard(FORGED), 3, Limits())
    assert [each.ended for each in found] == [CodeEnd.OK, *[CodeEnd.SANDBOX_LOST] * 2]


def test_code_that_never_loaded_is_no_verdict_where_the_jail_died():
    said = Transcript(started_s=0.0)
    assert [each.ended for each in interpret(said, 2, Limits())] == [CodeEnd.SANDBOX_LOST] * 2


@pytest.mark.parametrize(("count", "others"), [(1, []), (3, [None, None])])
def test_a_record_that_ran_out_of_time_took_all_that_it_was_given(count, others):
    first, *rest = interpret(
        heard(timed_out=True, status={"signal": 9}), count, Limits(time_s=2.0, load_s=7.0)
    )
    assert (first.ended, first.run_ms, rest) == (CodeEnd.TIMEOUT, 2000.0, others)


def test_code_that_does_not_load_in_time_took_what_loading_is_given():
    said = Transcript(started_s=0.0, timed_out=True, status={"signal": 9})
    (alone,) = interpret(said, 1, Limits(time_s=2.0, load_s=7.0))
    assert (alone.ended, alone.run_ms) == (CodeEnd.TIMEOUT, 7000.0)
    assert alone.detail == "its code did not load within 7 s"


def test_a_scorer_that_was_killed_is_told_how_much_memory_it_had():
    (alone,) = interpret(heard(status={"signal": 9}), 1, Limits(memory_mb=64))
    assert alone.ended is CodeEnd.KILLED
    assert "memory_mb is 64" in alone.detail
