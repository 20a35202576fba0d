"""The logs of one project and its automations in memory, as looks read and write them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from automations.model import Automation, AutomationStatus, WebhookAction
from automations.payload import Site
from automations.watches import Watch, Watches
from automations.windows import MatchWindow, Report
from flows.automations.evaluate import (
    Evaluation,
    LookedRow,
    LookResult,
    NoLook,
    Notification,
)
from spans.ids import AutomationId, DeliveryId, OrgId, ProjectId, RowSeq, Xact
from spans.json import JsonObject

BEGAN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FIRST, NOWHERE = Xact(100), RowSeq(0)


@dataclass
class MemoryRow:
    seq: RowSeq
    xact: Xact
    stored_at: datetime
    view: JsonObject | None


@dataclass
class MemoryLooks:
    """Implements flows.automations.evaluate.LookStore for one project."""

    project_id: ProjectId = field(default_factory=lambda: ProjectId(uuid.uuid4()))
    now: datetime = BEGAN
    rows: dict[RowSeq, MemoryRow] = field(default_factory=dict)
    watching: dict[int, Watch] = field(default_factory=dict)
    windows: dict[int, MatchWindow] = field(default_factory=dict)
    due_ats: dict[int, datetime | None] = field(default_factory=dict)
    watched: dict[RowSeq, tuple[int, ...]] = field(default_factory=dict)
    notifications: list[Notification] = field(default_factory=list)
    evaluations: list[tuple[datetime, int, list[Evaluation]]] = field(default_factory=list)
    on_its_way: dict[int, Notification] = field(default_factory=dict)
    xact: Xact = FIRST
    read: tuple[Xact, RowSeq] = (FIRST, NOWHERE)
    is_looked_at: bool = False
    marks: int = 0

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def write(self, seq: int, view: JsonObject | None) -> None:
        """Stores a row anew. None deletes it."""
        self.xact = Xact(self.xact + 1)
        self.rows[RowSeq(seq)] = MemoryRow(RowSeq(seq), self.xact, self.now, view)

    def watch(self, btql_filter: str = "", interval_s: int = 60, *, name: str = "a") -> int:
        """Makes an automation, and returns its number."""
        no = len(self.windows) + 1
        automation = Automation(
            id=AutomationId(uuid.UUID(int=no)), project_id=self.project_id, name=name,
            description=None, btql_filter=btql_filter, interval_s=interval_s,
            status=AutomationStatus.ACTIVE, action=WebhookAction(url="https://example.com/"),
            created=self.now,
        )
        if not self.watching:
            self.read = max(
                ((row.xact, row.seq) for row in self.rows.values()), default=self.read
            )
        self.watching[no] = Watch(
            no=no, automation_no=no, start_xact=self.xact, has_baseline=False,
            automation=automation,
        )
        self.windows[no] = MatchWindow(started_at=self.now)
        self.due_ats[no] = None
        return no

    def end(self, automation_no: int, *, delivered: bool) -> None:
        """Ends the notification that is on its way."""
        report = self.on_its_way.pop(automation_no).report
        window = self.windows[automation_no]
        window = window.delivered(report) if delivered else window.abandoned(report)
        window = window.rebased(self.now)
        interval = timedelta(seconds=self.watching[automation_no].automation.interval_s)
        self.windows[automation_no] = window
        self.due_ats[automation_no] = window.due_at(self.now, interval)

    def reports(self) -> list[Report]:
        return [each.report for each in self.notifications]

    def mark_time(self) -> None:
        self.marks += 1

    def waiting(self) -> Sequence[ProjectId]:
        changed = any((row.xact, row.seq) > self.read for row in self.rows.values())
        due = any(at is not None and at <= self.now for at in self.due_ats.values())
        begun = any(not watch.has_baseline for watch in self.watching.values())
        return [self.project_id] if begun or (self.watching and (changed or due)) else []

    @contextmanager
    def look(self, project_id: ProjectId) -> Iterator[MemoryLook | NoLook]:
        assert project_id == self.project_id
        yield NoLook.TAKEN if self.is_looked_at else MemoryLook(self)


class MemoryLook:
    """Implements flows.automations.evaluate.Look."""

    def __init__(self, store: MemoryLooks) -> None:
        self._store = store
        self._upto = store.read
        self.at = store.now
        self.site = Site(
            org_id=OrgId(uuid.UUID(int=1)), org_name="acme", project_name="app",
            app_url="http://tallyard",
        )
        self.watches = Watches(store.watching.values())

    def baseline(self, rows_max: int) -> Sequence[LookedRow]:
        start = max(self.watches.watch(no).start_xact for no in self.watches.without_baseline)
        found = [row for row in self._store.rows.values() if row.xact <= start]
        found.sort(key=lambda row: (row.xact, row.seq), reverse=True)
        return [self._looked(row) for row in found[:rows_max]]

    def changed(self, rows_max: int) -> Sequence[LookedRow]:
        found = [
            row for row in self._store.rows.values() if (row.xact, row.seq) > self._store.read
        ]
        found.sort(key=lambda row: (row.xact, row.seq))
        if chosen := found[:rows_max]:
            self._upto = chosen[-1].xact, chosen[-1].seq
        return [self._looked(row) for row in chosen]

    def windows(self, automation_nos: Iterable[int]) -> Mapping[int, MatchWindow]:
        return {no: self._store.windows[no] for no in automation_nos}

    def due(self, most: int) -> Mapping[int, MatchWindow]:
        found = [no for no, at in self._store.due_ats.items() if at and at <= self.at]
        return {no: self._store.windows[no] for no in found[:most]}

    def write(self, result: LookResult) -> None:
        store = self._store
        store.watching = {
            no: replace(watch, has_baseline=True) for no, watch in store.watching.items()
        }
        store.watched.update(result.watched)
        for no, (window, due_at) in result.windows.items():
            store.windows[no], store.due_ats[no] = window, due_at
        for each in result.notifications:
            assert each.automation_no not in store.on_its_way
            store.on_its_way[each.automation_no] = each
            store.notifications.append(each)
        if self._upto != store.read:
            store.evaluations.append((self.at, result.rows_read, result.evaluations))
        store.read = self._upto

    def _looked(self, row: MemoryRow) -> LookedRow:
        return LookedRow(
            seq=row.seq, xact=row.xact, stored_at=row.stored_at, view=row.view,
            watches=self._store.watched.get(row.seq, ()),
        )


def delivery_id(at: datetime) -> DeliveryId:
    """An id for a notification that is formed at `at`."""
    del at
    return DeliveryId(uuid.uuid4())
