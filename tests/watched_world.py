"""A project on PostgreSQL with automations, and a process that evaluates them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import orjson
from stored_world import StoredWorld

from automations.windows import Report
from flows.automations.evaluate import Evaluator
from spans.ids import uuid7
from store.automations.looks import Looks
from store.automations.states import end_notification
from store.postgres.versions import settled_version


class SentNotification(NamedTuple):
    """A notification as it is stored."""

    name: str
    matches: int
    time_start: datetime
    time_end: datetime
    state: str


class WatchedWorld(StoredWorld):
    """`looks` is the store of the process that evaluates."""

    def __init__(self, url: str, *, project: str = "app") -> None:
        super().__init__(url, project=project)
        self.looks = Looks(self.database, app_url="http://tallyard")

    def watch(self, btql_filter: str = "", interval_s: int = 60, *, name: str = "a") -> int:
        """Makes an automation, and returns its number."""
        config = orjson.dumps({
            "event_type": "logs", "btql_filter": btql_filter, "interval_seconds": interval_s,
            "status": "active",
            "action": {"type": "webhook", "url": "https://example.com/hook"},
        }).decode()
        object_no = self.database.numbers.object_no(self.where)
        with self.database.cursor() as cursor:
            settled = settled_version(cursor)
            cursor.execute(
                """insert into automation_project (project_id, object_no, revision, active,
                                                   read_xact, read_seq, looked_at)
                   values (%s, %s, 1, 1, %s, 0, now())
                   on conflict (project_id) do update
                      set revision = automation_project.revision + 1,
                          active = automation_project.active + 1""",
                (self.where.project_id, object_no, settled),
            )
            cursor.execute(
                """insert into automation (id, project_id, name, config)
                   values (%s, %s, %s, %s) returning automation_no""",
                (uuid.uuid4(), self.where.project_id, name, config),
            )
            ((number,),) = cursor.fetchall()
            cursor.execute(
                """insert into automation_state (automation_no, project_id, is_active,
                                                 watch_no, start_xact, started_at)
                   values (%s, %s, true, nextval('watch_seq'), %s, now())""",
                (number, self.where.project_id, settled),
            )
        return int(number)

    def look(self, looks: Looks | None = None) -> int:
        """Evaluates until nothing is left."""
        evaluator = self.evaluator(looks)
        return evaluator.evaluate_all(seconds=lambda: 0.0, stop_after_s=60)

    def evaluator(self, looks: Looks | None = None) -> Evaluator:
        return Evaluator(
            store=looks or self.looks, ring=lambda: None,
            new_id=lambda at: uuid7(at, os.urandom(10)),
        )

    def end(self, *, delivered: bool, number: int | None = None) -> None:
        """Ends the notification that is on its way, as its delivery does."""
        ((delivery_id, number, *values),) = self.rows(
            """select delivery.id, delivery.automation_no, time_start, time_end, matches,
                      delivery.first_at
                 from delivery join automation_state on delivery_id = delivery.id
                where %s::integer is null or delivery.automation_no = %s""",
            number, number,
        )
        time_start, time_end, matches, first_at = values
        report = Report(
            time_start=time_start, time_end=time_end, matches=matches, first_at=first_at
        )
        with self.database.cursor() as cursor:
            cursor.execute(
                "update delivery set state = %s, ended_at = now() where id = %s",
                ("delivered" if delivered else "abandoned", delivery_id),
            )
            end_notification(
                cursor, delivery_id, number, report, delivered=delivered,
                now=datetime.now(UTC),
            )

    def age(self, seconds: float) -> None:
        """Lets time pass for automations: all that they have kept becomes older."""
        by = timedelta(seconds=seconds)
        with self.database.cursor() as cursor:
            for table, columns in AGED.items():
                shifted = ", ".join(f"{column} = {column} - %(by)s" for column in columns)
                cursor.execute(f"update {table} set {shifted}".encode(), {"by": by})

    def notifications(self) -> list[SentNotification]:
        return [
            SentNotification(*row) for row in self.rows(
                """select name, matches, time_start, time_end, state
                     from delivery join automation using (automation_no) order by time_end"""
            )
        ]

    def counts(self) -> list[int]:
        return [each.matches for each in self.notifications()]


AGED = {
    "automation_state": ("started_at", "first_at", "open_from", "reported_until", "due_at"),
    "automation_project": ("looked_at",),
    "version_time": ("first_at", "last_at"),
    "evaluation": ("looked_at", "until"),
    "delivery": ("created", "time_start", "time_end", "first_at", "next_attempt_at"),
}


@contextmanager
def watched_world(url: str) -> Iterator[WatchedWorld]:
    """A world with automations over the database."""
    world = WatchedWorld(url)
    yield world
    world.close()
