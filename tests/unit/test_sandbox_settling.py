"""What came of records, from what was heard of a child that broke the form of its answers."""

from __future__ import annotations

import pytest

from scorers.sandbox.exchange import Transcript
from scorers.sandbox.frames import Frame
from scorers.sandbox.model import Ended, Limits
from scorers.sandbox.settling import settle

LOADED = Frame(b'{"result":true}', b"", 0, 1.0)
FORGED = Frame(b'{"result":1}', b"", 0, 2.0)
ENDED = {"exit": 0}


def heard(*frames, **more):
    return Transcript(started_s=0.0, loaded=LOADED, frames=[*frames], **more)


@pytest.mark.parametrize("status", [ENDED, None], ids=["it ended", "its jail died"])
def test_nothing_of_a_child_that_broke_the_form_is_believed(status):
    said = heard(FORGED, status=status, broken="an answer of 9999999 bytes")
    (alone,) = settle(said, 1, Limits())
    assert alone.ended is Ended.BAD_RESULT
    assert settle(said, 3, Limits()) == [None] * 3


def test_what_came_before_a_jail_died_stays():
    found = settle(heard(FORGED), 3, Limits())
    assert [each.ended for each in found] == [Ended.OK, *[Ended.SANDBOX_LOST] * 2]


def test_code_that_never_loaded_is_no_verdict_where_the_jail_died():
    said = Transcript(started_s=0.0)
    assert [each.ended for each in settle(said, 2, Limits())] == [Ended.SANDBOX_LOST] * 2
