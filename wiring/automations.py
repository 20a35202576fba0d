"""Builds what evaluates automations, from the services of a process."""

from __future__ import annotations

import os

from flows.automations.evaluate import Evaluator
from spans.ids import uuid7
from spans.queues import WEBHOOKS
from store.automations.looks import Looks
from wiring.services import Services
from wiring.settings import Settings

UUID_RANDOM_BYTES = 10


def make_evaluator(services: Services) -> Evaluator:
    """The evaluator of all automations. Its process keeps it, with the filters compiled."""
    return Evaluator(
        store=Looks(services.database, app_url=app_url(services.settings)),
        ring=lambda: services.bell.ring(WEBHOOKS),
        new_id=lambda at: uuid7(at, os.urandom(UUID_RANDOM_BYTES)),
    )


def app_url(settings: Settings) -> str:
    """The address of the pages that messages link to: TALLYARD_PUBLIC_URL, or else that of
    this machine."""
    if settings.public_url:
        return settings.public_url.rstrip("/")
    host = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host  # noqa: S104 read, not bound
    return f"http://{host}:{settings.api_port}"
