"""Builds what sends to webhooks. Only the worker that serves their queue imports it."""

from __future__ import annotations

import asyncio
import random

from automations.outbound.client import OutboundClient
from flows.automations.deliver import Sender
from store.automations.due_deliveries import DueDeliveries
from wiring.services import Services

LEASE_RENEWALS = 4
"""How many times a lease is renewed within its duration."""


def webhook_sender(services: Services, loop: asyncio.AbstractEventLoop) -> Sender:
    """What sends the deliveries that are due. Requests are made on `loop`, which must be
    running."""
    settings = services.settings
    proxy = settings.outbound_proxy
    return Sender(
        store=DueDeliveries(services.database, lease_s=settings.lease_s),
        client=OutboundClient(
            settings.outbound_policy, clock=services.clock,
            proxy=proxy.get_secret_value() if proxy else None,
        ),
        box=services.secret_box, loop=loop, clock=services.clock,
        renew_s=settings.lease_s / LEASE_RENEWALS, spread=random.random,
    )
