"""What an automation has found and sent, and what it is doing now: `automations explain`.

The history is put together from two logs. Looks at the project's changes tell what was read,
how many rows matched and what became of them; looks in a row without a match are told as one.
Deliveries tell what was sent.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol, TypeAlias
from uuid import UUID

from automations.payload import duration_text, time_text
from automations.signature import message_id
from flows.access.principal import KeyRole, Principal
from flows.access.use_case import use_case
from flows.automations.automations import Automations
from flows.automations.evaluate import Evaluated
from spans.errors import BadInput, NotFound
from spans.ids import AutomationId, DeliveryId
from spans.json import JsonObject

HISTORY_MAX = 1000
"""Entries of one page."""

LOOKS_AT_ONCE, DELIVERIES_AT_ONCE = 1000, 100
"""How many of each are read by one statement."""

READ_MAX = 50_000
"""What is read for one page. It ends there, even if nearly all of it were looks that matched
nothing, which are told as one."""

_CURSOR = re.compile(r"(\d{1,18})-([0-9a-f]{32})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class LookEntry:
    """One look at the project's changes, or several in a row in which nothing matched.

    `matches` rows began to match the automation; `decision` says what became of them, and
    `due_at` when they are reported if they were collected. `delivery_id` is the notification
    that reports them, or the one on its way for which they wait.
    """

    no: int
    first_at: datetime
    at: datetime
    looks: int
    rows_read: int
    matches: int = 0
    decision: Evaluated | None = None
    due_at: datetime | None = None
    delivery_id: DeliveryId | None = None

    def __str__(self) -> str:
        looks = "1 look" if self.looks == 1 else f"{self.looks} looks"
        if self.decision is None:
            return f"read {_counted(self.rows_read, 'row')} in {looks}: none matched"
        found = f"matched {_counted(self.matches, 'row')} of {self.rows_read} read"
        name = message_id(self.delivery_id) if self.delivery_id else "that has been deleted"
        match self.decision:
            case Evaluated.FIRED:
                return f"{found}: formed the notification {name}"
            case Evaluated.RETRYING:
                return f"{found}: collected until the notification {name} has ended"
            case Evaluated.COLLECTED:
                due = time_text(self.due_at) if self.due_at else "once it is active again"
                return f"{found}: collected; the next notification is due {due}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryEntry:
    """A notification or a test, at the time at which it was formed.

    `attempts` is the number of all that were made, `last_error` what the last one met.
    `carried_by` is the later notification that reports the matches of an abandoned one.
    """

    id: DeliveryId
    at: datetime
    is_test: bool
    state: str
    time_start: datetime
    time_end: datetime
    matches: int
    attempts: int
    last_error: str | None
    next_attempt_at: datetime
    ended_at: datetime | None
    carried_by: DeliveryId | None

    def __str__(self) -> str:
        return self.text()

    def text(self, *, is_active: bool = True) -> str:
        """The entry as a sentence. One that is not `is_active`, since its automation is paused,
        waits."""
        what = "test" if self.is_test else "notification"
        span = duration_text(self.time_end - self.time_start)
        text = f"{what} {message_id(self.id)} of {_counted(self.matches, 'match')} in {span}"
        attempts = _counted(self.attempts, "attempt")
        error = f": {self.last_error}" if self.last_error else ""
        if self.ended_at is None:
            if not is_active:
                return f"{text}: waits until the automation is active, {attempts} so far{error}"
            due = time_text(self.next_attempt_at)
            return f"{text}: on its way, {attempts} so far, the next from {due} on{error}"
        ended = f"{self.state} at {time_text(self.ended_at)} after {attempts}"
        if self.carried_by is not None:
            error += f"; its matches are in {message_id(self.carried_by)}"
        return f"{text}: {ended}{error}"


Entry: TypeAlias = LookEntry | DeliveryEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """What an automation is doing now. `looked_at`: when its project was last looked at."""

    is_active: bool
    started_at: datetime
    collected: int
    first_at: datetime | None
    reported_until: datetime | None
    due_at: datetime | None
    sending: DeliveryEntry | None
    disabled_at: datetime | None
    disabled_reason: str | None
    looked_at: datetime

    def sentences(self) -> list[str]:
        """The present state, for people."""
        told = [self._watching(), self._collected()]
        if self.sending is not None:
            text = self.sending.text(is_active=self.is_active)
            told.append(f"{text[0].upper()}{text[1:]}.")
        told.append(
            "No notification has been delivered yet." if self.reported_until is None
            else "The last notification that was delivered told of everything until "
            f"{time_text(self.reported_until)}."
        )
        if self.is_active:
            told.append(
                f"The last look at the project's changes was at {time_text(self.looked_at)}."
            )
        return told

    def _watching(self) -> str:
        if self.is_active:
            return f"It has watched since {time_text(self.started_at)}."
        if self.disabled_at is not None:
            return (
                f"Tallyard paused it at {time_text(self.disabled_at)}: {self.disabled_reason}. "
                "Set its status to active when the receiver works again."
            )
        return "It is paused: no row matches it, and it sends nothing."

    def _collected(self) -> str:
        if not self.collected:
            return "It has collected no match since the last notification."
        many = self.collected != 1
        text = f"{_counted(self.collected, 'match')} {'are' if many else 'is'} collected"
        if self.first_at is not None:
            text += f", {'the first ' if many else ''}of {time_text(self.first_at)}"
        if self.due_at is not None:
            return f"{text}; the next notification is due at {time_text(self.due_at)}."
        if self.sending is not None:
            return f"{text}; the next notification waits for the one on its way."
        return f"{text}; they are reported once it is active again."


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPlace:
    """Where a page of the history begins: below this look and this delivery."""

    look_no: int | None = None
    delivery_id: DeliveryId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """A page of the history, newest first. `cursor` begins the next page; None: it is the
    last one."""

    present: Present
    entries: tuple[Entry, ...]
    cursor: str | None


class HistoryStore(Protocol):
    """Where evaluations and deliveries are read."""

    def present(self, automation_id: AutomationId) -> Present | None: ...

    def looks(
        self, automation_id: AutomationId, below: int | None, most: int
    ) -> Sequence[LookEntry]:
        """The looks at the automation's project while it existed, newest first."""
        ...

    def deliveries(
        self, automation_id: AutomationId, below: DeliveryId | None, most: int
    ) -> Sequence[DeliveryEntry]:
        """The automation's notifications and tests, newest first."""
        ...


def read_history(
    store: HistoryStore, automation_id: AutomationId, *, limit: int, cursor: str | None
) -> History | None:
    """A page of the history; None if there is no such automation.

    Raises BadInput for a `cursor` that no page has given.
    """
    place = read_cursor(cursor) if cursor else HistoryPlace()
    present = store.present(automation_id)
    if present is None:
        return None
    every = heapq.merge(
        _all_looks(store, automation_id, place.look_no),
        _all_deliveries(store, automation_id, place.delivery_id),
        key=lambda entry: entry.at, reverse=True,
    )
    entries: list[Entry] = []
    for number, entry in enumerate(every):
        joined = _joined(entries[-1], entry) if entries else None
        if number == READ_MAX or (joined is None and len(entries) == limit):
            return History(present=present, entries=tuple(entries), cursor=_cursor(place))
        if joined is None:
            entries.append(entry)
        else:
            entries[-1] = joined
        place = _below(place, entry)
    return History(present=present, entries=tuple(entries), cursor=None)


def _all_looks(
    store: HistoryStore, automation_id: AutomationId, below: int | None
) -> Iterator[Entry]:
    while found := store.looks(automation_id, below, LOOKS_AT_ONCE):
        yield from found
        below = found[-1].no


def _all_deliveries(
    store: HistoryStore, automation_id: AutomationId, below: DeliveryId | None
) -> Iterator[Entry]:
    while found := store.deliveries(automation_id, below, DELIVERIES_AT_ONCE):
        yield from found
        below = found[-1].id


def read_cursor(text: str) -> HistoryPlace:
    """The place that a page's cursor names. Raises BadInput."""
    match = _CURSOR.fullmatch(text)
    if match is None:
        raise BadInput("must be the cursor of a page of this history", path="cursor")
    return HistoryPlace(
        look_no=int(match[1]) or None,
        delivery_id=DeliveryId(UUID(match[2])) if match[2] else None,
    )


def history_json(history: History) -> JsonObject:
    """A page of the history as JSON."""
    present = history.present
    return {
        "present": {
            "is_active": present.is_active,
            "watching_since": time_text(present.started_at),
            "collected": present.collected,
            "due_at": _time(present.due_at),
            "delivery_id": message_id(present.sending.id) if present.sending else None,
            "reported_until": _time(present.reported_until),
            "looked_at": time_text(present.looked_at),
            "text": " ".join(present.sentences()),
        },
        "entries": [entry_json(entry) for entry in history.entries],
        "cursor": history.cursor,
    }


def entry_json(entry: Entry) -> JsonObject:
    """An entry of the history as JSON."""
    if isinstance(entry, LookEntry):
        return {
            "kind": "look", "at": time_text(entry.at), "first_at": time_text(entry.first_at),
            "looks": entry.looks, "rows_read": entry.rows_read, "matches": entry.matches,
            "decision": entry.decision.value if entry.decision else None,
            "due_at": _time(entry.due_at),
            "delivery_id": message_id(entry.delivery_id) if entry.delivery_id else None,
            "text": str(entry),
        }
    return {
        "kind": "test" if entry.is_test else "notification", "at": time_text(entry.at),
        "delivery_id": message_id(entry.id), "state": entry.state,
        "time_start": time_text(entry.time_start), "time_end": time_text(entry.time_end),
        "matches": entry.matches, "attempts": entry.attempts, "last_error": entry.last_error,
        "next_attempt_at": None if entry.ended_at else time_text(entry.next_attempt_at),
        "ended_at": _time(entry.ended_at),
        "carried_by": message_id(entry.carried_by) if entry.carried_by else None,
        "text": str(entry),
    }


def _joined(last: Entry, entry: Entry) -> LookEntry | None:
    """Both as one entry, if they are looks in which nothing matched; `entry` is the older."""
    if not isinstance(last, LookEntry) or not isinstance(entry, LookEntry):
        return None
    if last.decision or entry.decision:
        return None
    return replace(
        last, first_at=entry.first_at, looks=last.looks + entry.looks,
        rows_read=last.rows_read + entry.rows_read,
    )


def _below(place: HistoryPlace, entry: Entry) -> HistoryPlace:
    if isinstance(entry, LookEntry):
        return replace(place, look_no=entry.no)
    return replace(place, delivery_id=entry.id)


def _cursor(place: HistoryPlace) -> str:
    return f"{place.look_no or 0}-{place.delivery_id.hex if place.delivery_id else ''}"


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else time_text(moment)


def _counted(count: int, noun: str) -> str:
    plural = "matches" if noun == "match" else f"{noun}s"
    return f"{count} {noun if count == 1 else plural}"


class AutomationHistory:
    """The history of each automation of an organisation. Thread-safe."""

    def __init__(self, automations: Automations, store: HistoryStore) -> None:
        self._automations = automations
        self._store = store

    @use_case(KeyRole.READ)
    def read(
        self, principal: Principal, automation_id: AutomationId, *, limit: int,
        cursor: str | None = None,
    ) -> History:
        """A page of the history, newest first.

        Raises NotFound for an automation that the key does not reach, and BadInput for a
        `cursor` that no page has given.
        """
        self._automations.get(principal, automation_id)
        history = read_history(self._store, automation_id, limit=limit, cursor=cursor)
        if history is None:
            raise NotFound("no such automation")   # it has just been deleted
        return history
