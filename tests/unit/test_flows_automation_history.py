"""What an automation's history tells, and how it is paged."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fakes.memory.history import ListedHistory
from memory_tallyard import MemoryTallyard

from automations.wire import read_automation
from flows.access.principal import KeyRole
from flows.automations import history
from flows.automations.evaluate import Evaluated
from flows.automations.history import (
    AutomationHistory,
    DeliveryEntry,
    Entry,
    History,
    LookEntry,
    Present,
    history_json,
    read_history,
)
from spans.errors import BadInput, Forbidden, NotFound
from spans.ids import AutomationId, DeliveryId

START = datetime(2026, 5, 1, 12, tzinfo=UTC)
WHICH = AutomationId(uuid.UUID(int=1))


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def look(seconds: int, **fields: Any) -> LookEntry:
    return LookEntry(**{
        "no": seconds + 1, "first_at": at(seconds), "at": at(seconds), "looks": 1,
        "rows_read": 3, **fields,
    })


def delivery(seconds: int, **fields: Any) -> DeliveryEntry:
    return DeliveryEntry(**{
        "id": DeliveryId(uuid.UUID(int=seconds + 1)), "at": at(seconds), "is_test": False,
        "state": "delivered", "time_start": at(seconds - 3600), "time_end": at(seconds),
        "matches": 2, "attempts": 1, "last_error": None, "next_attempt_at": at(seconds),
        "ended_at": at(seconds + 1), "carried_by": None, **fields,
    })


PRESENT = Present(
    is_active=True, started_at=START, collected=0, first_at=None, reported_until=None,
    due_at=None, sending=None, disabled_at=None, disabled_reason=None, looked_at=at(9),
)


def page(
    looks: list[LookEntry], deliveries: list[DeliveryEntry], *, limit: int = 10,
    cursor: str | None = None,
) -> History:
    found = read_history(
        ListedHistory(PRESENT, looks[::-1], deliveries[::-1]), WHICH, limit=limit, cursor=cursor
    )
    assert found is not None
    return found


def all_entries(
    looks: list[LookEntry], deliveries: list[DeliveryEntry], *, limit: int
) -> list[Entry]:
    found: list[Entry] = []
    cursor: str | None = None
    while True:
        one = page(looks, deliveries, limit=limit, cursor=cursor)
        assert len(one.entries) <= limit
        found += one.entries
        if (cursor := one.cursor) is None:
            return found


def matched(seconds: int, decision: Evaluated = Evaluated.FIRED) -> LookEntry:
    return look(seconds, matches=2, decision=decision)


def test_looks_in_a_row_without_a_match_are_told_as_one() -> None:
    entries = page([look(0), look(1), look(2), matched(3), look(4)], []).entries
    assert [str(entry) for entry in entries][::2] == [
        "read 3 rows in 1 look: none matched", "read 9 rows in 3 looks: none matched"
    ]
    assert isinstance(entries[2], LookEntry)
    assert (entries[2].first_at, entries[2].at) == (at(0), at(2))


def test_a_delivery_stands_between_the_looks_before_and_after_it() -> None:
    entries = page([look(0), look(1), look(3)], [delivery(2)]).entries
    assert [entry.at for entry in entries] == [at(3), at(2), at(1)]


@pytest.mark.parametrize("limit", [1, 2, 3, 50])
def test_pages_together_tell_everything_once(limit: int) -> None:
    looks = [matched(n) if n % 3 else look(n) for n in range(20)]
    deliveries = [delivery(n) for n in range(0, 30, 4)]
    assert all_entries(looks, deliveries, limit=limit) == (
        all_entries(looks, deliveries, limit=50)
    )


def test_a_page_reads_a_limited_number_of_looks_and_the_next_goes_on_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(history, "READ_MAX", 4)
    looks, deliveries = [look(n) for n in range(2, 9)], [delivery(1)]
    first = page(looks, deliveries)
    second = page(looks, deliveries, cursor=first.cursor)
    assert [entry.at for entry in (*first.entries, *second.entries)] == [at(8), at(4), at(1)]
    assert second.cursor is None


def test_looks_that_would_be_joined_do_not_begin_another_page() -> None:
    found = page([look(1), look(2)], [], limit=1)
    assert (len(found.entries), found.cursor) == (1, None)


def test_a_cursor_of_something_else_is_refused() -> None:
    with pytest.raises(BadInput, match="cursor"):
        page([], [], cursor="p0001")


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (look(5, matches=1, decision=Evaluated.COLLECTED, due_at=at(60)),
         "matched 1 row of 3 read: collected; the next notification is due "
         "2026-05-01T12:01:00.000Z"),
        (look(5, matches=2, decision=Evaluated.FIRED, delivery_id=delivery(5).id),
         "matched 2 rows of 3 read: formed the notification "
         "msg_00000000000000000000000000000006"),
        (look(5, matches=2, decision=Evaluated.RETRYING, delivery_id=delivery(1).id),
         "matched 2 rows of 3 read: collected until the notification "
         "msg_00000000000000000000000000000002 has ended"),
        (delivery(0),
         "notification msg_00000000000000000000000000000001 of 2 matches in 1 hour: delivered "
         "at 2026-05-01T12:00:01.000Z after 1 attempt"),
        (delivery(0, is_test=True, state="failed", last_error="status 500"),
         "test msg_00000000000000000000000000000001 of 2 matches in 1 hour: failed "
         "at 2026-05-01T12:00:01.000Z after 1 attempt: status 500"),
        (delivery(0, state="pending", ended_at=None, attempts=3, last_error="timeout"),
         "notification msg_00000000000000000000000000000001 of 2 matches in 1 hour: on its "
         "way, 3 attempts so far, the next from 2026-05-01T12:00:00.000Z on: timeout"),
        (delivery(0, state="abandoned", attempts=8, carried_by=delivery(5).id),
         "notification msg_00000000000000000000000000000001 of 2 matches in 1 hour: abandoned "
         "at 2026-05-01T12:00:01.000Z after 8 attempts; its matches are in "
         "msg_00000000000000000000000000000006"),
    ],
)
def test_an_entry_says_what_happened(entry: Entry, text: str) -> None:
    assert str(entry) == text


@pytest.mark.parametrize(
    ("present", "text"),
    [
        (PRESENT, "It has watched since 2026-05-01T12:00:00.000Z. It has collected no match"),
        (replace(PRESENT, collected=1, first_at=at(1), due_at=at(60)),
         "1 match is collected, of 2026-05-01T12:00:01.000Z; the next notification is due at "
         "2026-05-01T12:01:00.000Z."),
        (replace(PRESENT, collected=2, first_at=at(1), sending=delivery(0, ended_at=None)),
         "2 matches are collected, the first of 2026-05-01T12:00:01.000Z; the next "
         "notification waits for the one on its way. Notification msg_"),
        (replace(PRESENT, is_active=False, collected=2, reported_until=at(0)),
         "It is paused: no row matches it, and it sends nothing. 2 matches are collected; they "
         "are reported once it is active again. The last notification that was delivered told "
         "of everything until 2026-05-01T12:00:00.000Z."),
        (replace(PRESENT, is_active=False, sending=delivery(0, ended_at=None)),
         "of 2 matches in 1 hour: waits until the automation is active, 1 attempt so far"),
        (replace(PRESENT, is_active=False, disabled_at=at(0), disabled_reason="410 Gone"),
         "Tallyard paused it at 2026-05-01T12:00:00.000Z: 410 Gone. Set its status to active"),
    ],
)
def test_the_present_state_is_told_in_sentences(present: Present, text: str) -> None:
    assert text in " ".join(present.sentences())


def test_the_history_as_json_has_both_facts_and_text() -> None:
    told = history_json(page([look(1), matched(2, Evaluated.COLLECTED)], [delivery(3)]))
    assert [entry["kind"] for entry in told["entries"]] == ["notification", "look", "look"]
    assert told["entries"][1]["decision"] == "collected"
    assert told["entries"][0]["delivery_id"].startswith("msg_")
    assert told["present"]["text"].startswith("It has watched since")
    assert told["cursor"] is None


# --- who may read it


def test_a_history_is_read_by_keys_that_reach_its_automation() -> None:
    world = MemoryTallyard()
    app, other = world.project("app"), world.project("other")
    fields = read_automation({"name": "a", "config": {
        "event_type": "logs", "btql_filter": "", "interval_seconds": 60,
        "action": {"type": "webhook", "url": "https://example.com/hook"},
    }})
    made = world.automations.make(world.admin, app, fields, replace=False).automation
    histories = AutomationHistory(world.automations, ListedHistory(PRESENT))

    for caller in (world.admin, world.caller(KeyRole.READ, app)):
        assert histories.read(caller, made.id, limit=1).present == PRESENT
    for caller in (world.stranger(), world.caller(KeyRole.READ, other)):
        with pytest.raises(NotFound):
            histories.read(caller, made.id, limit=1)
    with pytest.raises(Forbidden):
        histories.read(world.caller(KeyRole.INGEST), made.id, limit=1)
