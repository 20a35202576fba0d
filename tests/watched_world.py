"""A project on PostgreSQL with automations, and a process that evaluates them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from store_behaviours.automations import fields, written
from stored_world import StoredWorld

from automations.windows import Report
from flows.automations.evaluate import Evaluator
from spans.ids import uuid7
from store.automations.automations import StoredAutomations
from store.automations.looks import Looks
from store.automations.states import end_notification


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
        automations = StoredAutomations(self.database)
        given = fields(name, btql_filter=btql_filter, interval_seconds=interval_s)
        automations.put_automations(
            self.where.project_id, [given], lambda each, _: written(each), created_by="a key",
            replace=False,
        )
        ((number,),) = self.rows(
            "select automation_no from automation where project_id = %s and name = %s",
            self.where.project_id, name,
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
