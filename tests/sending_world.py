"""A project on PostgreSQL whose automations are sent to receivers on loopback."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import orjson
from fakes.webhook_receiver import WebhookReceiver
from running_loop import running_loop
from watched_world import WatchedWorld

from automations.outbound.client import OutboundClient
from automations.outbound.policy import read_policy
from automations.secrets import SecretBox, new_signing_secret
from flows.automations.deliver import Sender
from ops.servers.children import wait_until
from spans.clock import system_clock
from store.automations.due_deliveries import DueDeliveries
from store.postgres.database import Database

LEASE_S = 60.0
BOX = SecretBox(["the-key-of-the-tests-alone"])


class StoredDelivery(NamedTuple):
    state: str
    attempts: int
    attempt_no: int
    id: uuid.UUID


class StoredAttempt(NamedTuple):
    attempt_no: int
    status: int | None
    error_class: str | None
    run_ms: float | None


class SendingWorld(WatchedWorld):
    """`receiver` takes what the automations send, unless `notify` names another URL."""

    def __init__(
        self, url: str, loop: asyncio.AbstractEventLoop, *, project: str = "app"
    ) -> None:
        super().__init__(url, project=project)
        self.url = url
        self.loop = loop
        self.receiver = WebhookReceiver()
        self.secret = new_signing_secret()

    def notify(
        self, *, name: str = "a", url: str | None = None, interval_s: int = 60,
        headers: dict[str, str] | None = None,
    ) -> int:
        """Makes an automation that has just formed a notification, and returns its number."""
        number = self.watch("", interval_s, name=name)
        action = {
            "type": "webhook", "url": url or self.receiver.url, "headers": headers or {},
        }
        with self.database.cursor() as cursor:
            cursor.execute(
                """update automation set secret = %s,
                          config = jsonb_set(config, '{action}', %s::jsonb)
                    where automation_no = %s""",
                (BOX.seal(self.secret), orjson.dumps(action).decode(), number),
            )
            cursor.execute("update automation_project set revision = revision + 1")
        self.write({"id": f"row of {name} {os.urandom(4).hex()}"})

        def is_formed() -> bool:
            # One look may find that the write has not settled, or that the project is locked.
            self.look()
            return bool(self.rows("select from delivery where automation_no = %s", number))

        assert wait_until(is_formed, deadline_s=30)
        return number

    def sender(self, database: Database | None = None, *, deadline_s: float = 15.0) -> Sender:
        return Sender(
            store=DueDeliveries(database or self.database, lease_s=LEASE_S),
            client=OutboundClient(
                read_policy("127.0.0.1"), clock=system_clock, deadline_s=deadline_s
            ),
            box=BOX, loop=self.loop, clock=system_clock, renew_s=LEASE_S / 4,
            spread=lambda: 0.5,
        )

    def deliver(self, **given: Any) -> int:
        """Sends what is due now."""
        return self.sender(**given).run(stop_after_s=60)

    def make_due(self) -> None:
        """Lets the time of every next attempt come, and forgets the attempts of the last
        minute."""
        with self.database.cursor() as cursor:
            cursor.execute(
                "update delivery set next_attempt_at = now() where state = 'pending'"
            )
            cursor.execute(
                "update delivery_attempt set started_at = started_at - interval '1 hour'"
            )

    def deliveries(self) -> list[StoredDelivery]:
        return [
            StoredDelivery(*row) for row in self.rows(
                "select state, attempts, attempt_no, id from delivery order by created, id"
            )
        ]

    def attempts(self) -> list[StoredAttempt]:
        return [
            StoredAttempt(*row) for row in self.rows(
                """select attempt_no, status, error_class, run_ms from delivery_attempt
                    order by started_at, attempt_no"""
            )
        ]

    def state_of(self, number: int) -> dict[str, Any]:
        ((row,),) = self.rows(
            "select to_jsonb(s) from automation_state s where automation_no = %s", number
        )
        return row


@contextmanager
def sending_world(url: str) -> Iterator[SendingWorld]:
    """A world with a receiver and an event loop of its own."""
    with running_loop() as loop:
        world = SendingWorld(url, loop)
        with world.receiver:
            yield world
        world.close()
