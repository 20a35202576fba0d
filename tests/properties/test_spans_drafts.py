"""Drafts, over drawn writes: what becomes of a row, of its versions, and when it is matched."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from spans.drafts import Draft, Drafts, StoredRow
from spans.ids import ObjectId, ProjectId, RowSeq, Xact
from spans.json import JsonObject
from spans.merge import apply, has_same_content, is_same
from spans.row import (
    ObjectRef,
    ObjectType,
    Row,
    RowKey,
    RowWrite,
    is_complete,
    is_made_by_scorer,
)

PROJECT = ProjectId(uuid.UUID(int=1))
LOGS = ObjectRef(PROJECT, ObjectType.PROJECT_LOGS, ObjectId(PROJECT))
KEY, OTHER_KEY = RowKey(LOGS, "a"), RowKey(LOGS, "b")
LONG_AGO = Xact(10)

# Few values, and most of them of spans that have ended: so that drawn writes often repeat what
# is there, and often change one thing of it.
FIELDS: list[JsonObject] = [
    {**content, **ended, **more}
    for content in ({"output": "x"}, {"output": "x"}, {"output": "y"}, {"expected": "x"}, {})
    for ended in (*[{"metrics": {"end": 1.5}}] * 3, {}, {"metrics": None})
    for more in (
        {}, {}, {"metadata": {"k": 1}}, {"span_id": "s"}, {"span_id": "t", "tags": ["t"]},
        {"span_attributes": {"purpose": "scorer"}}, {"span_attributes": {"type": "score"}},
    )
]
USUAL = [
    {}, {"is_merge": True}, {"is_merge": True}, {"reselect": True},
    {"is_merge": True, "reselect": True},
    {"is_merge": True, "scoring_state": {"status": "disabled"}},
]
UNSCORED = [{"skip_scoring": True}, {"is_merge": True, "skip_scoring": True}]
FEEDBACK = [{"is_merge": True, "is_feedback": True}]


def writes(*controls: dict[str, Any], key: RowKey = KEY) -> st.SearchStrategy[RowWrite]:
    """Writes of one row, each with one of the controls; some delete it."""
    some = [RowWrite(key=key, fields=fields, **one) for fields in FIELDS for one in controls]
    deletion = RowWrite(key=key, fields={}, is_delete=True)
    return st.sampled_from([*some, *[deletion] * (len(some) // 6)])


WRITES = writes(*USUAL, *UNSCORED, *FEEDBACK)
OTHER_WRITES = writes(*USUAL, *UNSCORED, *FEEDBACK, key=OTHER_KEY)


@st.composite
def stored_rows(
    draw: st.DrawFn, key: RowKey = KEY, of: st.SearchStrategy[RowWrite] = WRITES
) -> StoredRow | None:
    """A row as earlier transactions left it, or none."""
    if draw(st.sampled_from([True, False, False])):
        return None
    before = draw(st.lists(of, min_size=1, max_size=3))
    drafts = run(None, before, first=1, key=key)
    return as_stored(drafts.changed[key], was_scored=draw(st.booleans()))


def as_stored(draft: Draft, *, was_scored: bool) -> StoredRow:
    return StoredRow(
        row=draft.row, seq=RowSeq(1), content_xact=draft.content_xact,
        trigger_xact=draft.trigger_xact, was_scored=was_scored, created_by=draft.created_by,
    )


def run(
    stored: StoredRow | None, given_writes: Sequence[RowWrite], *, first: int = LONG_AGO,
    key: RowKey = KEY,
) -> Drafts:
    """The drafts after the writes, each with a version of its own from `first` on."""
    drafts = Drafts(stored={key: copy.deepcopy(stored)} if stored else {})
    for number, write in enumerate(given_writes):
        drafts.apply(write, Xact(first + number))
    return drafts


def versions(drafts: Drafts, key: RowKey = KEY) -> tuple[Xact | None, Xact | None]:
    """The versions that last changed the row's content, and that put it up for matching."""
    row = drafts.changed.get(key) or drafts.stored.get(key)
    return (row.content_xact, row.trigger_xact) if row else (None, None)


some_writes = st.lists(WRITES, max_size=5)


@given(stored_rows(), some_writes)
def test_the_row_is_what_its_writes_make_of_it_one_after_another(
    stored: StoredRow | None, given_writes: list[RowWrite]
) -> None:
    expected = stored.row if stored else None
    for write in given_writes:
        expected = apply(expected, write)

    row = run(stored, given_writes).current(KEY)

    assert (row is None) == (expected is None)
    if row is not None and expected is not None:
        assert row.is_deleted == expected.is_deleted
        assert is_same(row, expected)


@given(stored_rows(), some_writes, st.integers(0, 5))
def test_it_does_not_matter_how_writes_are_spread_over_transactions(
    stored: StoredRow | None, given_writes: list[RowWrite], place: int
) -> None:
    first, second = given_writes[:place], given_writes[place:]
    whole = run(stored, given_writes)

    before = run(stored, first)
    between = stored
    if (draft := before.changed.get(KEY)) is not None:
        between = as_stored(draft, was_scored=False)
    parts = run(between, second, first=LONG_AGO + len(first))

    assert parts.current(KEY) == whole.current(KEY)
    assert versions(parts) == versions(whole)


@given(
    stored_rows(), stored_rows(OTHER_KEY, OTHER_WRITES), some_writes,
    st.lists(OTHER_WRITES, max_size=5),
)
def test_writes_of_other_rows_change_nothing_of_a_row(
    stored: StoredRow | None, other: StoredRow | None, own: list[RowWrite],
    others: list[RowWrite],
) -> None:
    alone = run(stored, own)

    both = run(stored, own)
    if other is not None:
        both.stored[OTHER_KEY] = other
    for number, write in enumerate(others):
        both.apply(write, Xact(LONG_AGO + number))

    assert both.changed.get(KEY) == alone.changed.get(KEY)
    assert both.current(KEY) == alone.current(KEY)


@given(stored_rows(), some_writes)
def test_a_write_sent_again_at_once_changes_nothing_unless_it_asks_for_a_match(
    stored: StoredRow | None, given_writes: list[RowWrite]
) -> None:
    assume(given_writes)
    last = given_writes[-1]
    drafts = run(stored, given_writes)
    row = drafts.current(KEY)
    assume(row is not None and is_same(row, apply(row, last)))
    before = copy.deepcopy(drafts.changed.get(KEY))

    drafts.apply(replace(last, reselect=False), Xact(99))

    assert drafts.changed.get(KEY) == before


@given(stored_rows(), some_writes)
def test_no_version_of_a_row_ever_steps_back(
    stored: StoredRow | None, given_writes: list[RowWrite]
) -> None:
    drafts = Drafts(stored={KEY: stored} if stored else {})
    content, trigger = versions(drafts)
    for number, write in enumerate(given_writes):
        drafts.apply(write, xact := Xact(LONG_AGO + number))
        new_content, new_trigger = versions(drafts)
        assert new_content is None or new_content in {content, xact}
        assert new_trigger in {trigger, xact}
        if (draft := drafts.changed.get(KEY)) is not None:
            assert max(draft.content_xact, draft.trigger_xact or 0) <= draft.xact <= xact
        content, trigger = new_content, new_trigger


@given(stored_rows(), WRITES)
def test_content_has_a_new_version_just_when_a_write_that_is_no_feedback_changes_it(
    stored: StoredRow | None, write: RowWrite
) -> None:
    drafts = run(stored, [write])
    row = drafts.current(KEY)
    assert row is not None

    is_changed = stored is None or not has_same_content(stored.row, row)

    content, _ = versions(drafts)
    if stored is None and write.is_feedback:
        assert content == LONG_AGO   # a new row has a version, whoever wrote it
    else:
        assert (content == LONG_AGO) == (is_changed and not write.is_feedback)


@given(stored_rows(), WRITES)
def test_a_row_is_put_up_for_matching_when_it_ends_changes_after_its_end_or_is_asked_for(
    stored: StoredRow | None, write: RowWrite
) -> None:
    drafts = run(stored, [write])
    row = drafts.current(KEY)
    assert row is not None

    ends = is_complete(row) and not (stored and is_complete(stored.row))
    changes = stored is None or not has_same_content(stored.row, row)
    wants = is_complete(row) and (ends or changes or write.reselect)
    may = not (write.skip_scoring or write.is_feedback or is_made_by_scorer(row.fields))

    _, trigger = versions(drafts)
    assert (trigger == LONG_AGO) == (wants and may)


def test_a_row_without_a_base_is_put_up_for_matching_when_its_base_comes() -> None:
    end = RowWrite(key=KEY, fields={"metrics": {"end": 1.5}}, is_merge=True)
    change = RowWrite(key=KEY, fields={"output": "x"}, is_merge=True, reselect=True)
    named = RowWrite(key=KEY, fields={"span_attributes": {"name": "s"}})

    assert versions(run(None, [end, change])) == (LONG_AGO + 1, None)
    # A base without content changes nothing that is judged, but makes the row a span.
    assert versions(run(None, [end, named])) == (LONG_AGO, LONG_AGO + 1)
    deletion = RowWrite(key=KEY, fields={}, is_delete=True)
    assert versions(run(None, [deletion, end]))[1] is None


def test_an_ended_row_that_nothing_changes_is_matched_again_only_if_that_is_asked_for() -> None:
    ended = RowWrite(key=KEY, fields={"output": "x", "metrics": {"end": 1.5}})
    stored = StoredRow(
        row=apply(None, ended), seq=RowSeq(1), content_xact=Xact(1), trigger_xact=Xact(1),
        was_scored=True,
    )

    assert versions(run(stored, [ended])) == (1, 1)
    assert versions(run(stored, [replace(ended, reselect=True)])) == (1, LONG_AGO)
    assert versions(run(stored, [
        RowWrite(key=KEY, fields={}, is_merge=True, reselect=True)
    ])) == (1, LONG_AGO)


@given(
    stored_rows(of=WRITES.filter(lambda write: not is_made_by_scorer(write.fields))),
    st.lists(
        writes(*USUAL).filter(lambda write: not is_made_by_scorer(write.fields)), max_size=5
    ),
)
def test_a_finished_span_is_matched_no_earlier_than_its_content_last_changed(
    stored: StoredRow | None, given_writes: list[RowWrite]
) -> None:
    drafts = run(stored, given_writes)
    row = drafts.current(KEY)
    content, trigger = versions(drafts)

    is_due = row is not None and is_complete(row)
    if is_due and content is not None and content >= LONG_AGO:
        assert trigger is not None
        assert trigger >= content


@given(stored_rows(), st.lists(writes(*USUAL, *UNSCORED), min_size=1, max_size=5))
def test_scores_of_content_that_is_gone_are_known_as_stale_or_computed_anew(
    stored: StoredRow | None, given_writes: list[RowWrite]
) -> None:
    drafts = run(stored, given_writes)
    draft = drafts.changed.get(KEY)
    _, trigger = versions(drafts)
    if draft is None or stored is None:
        assert draft is None or not draft.has_stale_scores
    elif not stored.was_scored or trigger != stored.trigger_xact:
        assert not draft.has_stale_scores
    elif not has_same_content(stored.row, draft.row):
        assert draft.has_stale_scores


@given(stored_rows(), some_writes)
def test_a_row_that_is_deleted_on_the_way_is_known_as_such_even_if_it_comes_back(
    stored: StoredRow | None, given_writes: list[RowWrite]
) -> None:
    rows: list[Row | None] = [stored.row if stored else None]
    for write in given_writes:
        rows.append(apply(rows[-1], write))
    deletions = [
        after for before, after in pairwise(rows)
        if after is not None and after.is_deleted and not (before and before.is_deleted)
    ]

    draft = run(stored, given_writes).changed.get(KEY)

    assert bool(deletions) <= (draft is not None and draft.was_deleted)


@given(st.lists(st.tuples(WRITES, st.sampled_from(["a", "b", None])), min_size=1, max_size=5))
def test_who_wrote_a_row_first_stays_who_made_it(
    sent: list[tuple[RowWrite, str | None]]
) -> None:
    drafts = Drafts(stored={})
    for number, (write, name) in enumerate(sent):
        drafts.apply(write, Xact(LONG_AGO + number), sent_by=name)
    stored = as_stored(drafts.changed[KEY], was_scored=False)

    (_, first), *_ = sent

    assert stored.created_by == first
    later = Drafts(stored={KEY: stored})
    later.apply(RowWrite(key=KEY, fields={"output": "anew"}), Xact(99), sent_by="c")
    assert later.changed[KEY].created_by == first


def test_a_row_that_is_deleted_and_made_anew_at_once_is_known_as_deleted() -> None:
    plain = RowWrite(key=KEY, fields={"output": "x"})
    stored = StoredRow(
        row=apply(None, plain), seq=RowSeq(1), content_xact=Xact(1), trigger_xact=None,
        was_scored=False,
    )
    deletion = RowWrite(key=KEY, fields={}, is_delete=True)

    draft = run(stored, [deletion, plain]).changed[KEY]

    assert draft.was_deleted
    assert not draft.row.is_deleted
    assert not run(stored, [replace(plain, fields={"output": "y"})]).changed[KEY].was_deleted


@given(stored_rows(), some_writes)
def test_neither_the_stored_rows_nor_the_writes_are_changed_in_place(
    stored: StoredRow | None, given_writes: list[RowWrite]
) -> None:
    drafts = Drafts(stored={KEY: stored} if stored else {})
    before = copy.deepcopy((stored, given_writes))

    for number, write in enumerate(given_writes):
        drafts.apply(write, Xact(LONG_AGO + number))

    assert (stored, given_writes) == before
