"""What a worker process holds: its services, and the event loop that judges.

The only module-level state there is. A child inherits its parent's sockets, and two
processes on one PostgreSQL connection garble each other: hence opened after the fork.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import dataclass, field

from celery.signals import (
    setup_logging,
    worker_init,
    worker_process_init,
    worker_process_shutdown,
    worker_shutdown,
)

from flows.judging import Judging
from wiring.collecting import set_up_collecting
from wiring.logs import set_up_logging
from wiring.services import Services, open_services
from wiring.settings import read_settings

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Process:
    """This process's services; made at the first use after the fork."""

    services: Services | None = None
    judging: Judging | None = None
    loop: asyncio.AbstractEventLoop | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


PROCESS = Process()


def services() -> Services:
    """This process's services."""
    with PROCESS.lock:
        if PROCESS.services is None:
            PROCESS.services = open_services(read_settings())
        return PROCESS.services


def judge(*, stop_after_s: float) -> int:
    """Judge what is due, on this process's one event loop; gives how many that were."""
    opened = services()
    with PROCESS.lock:
        if PROCESS.loop is None:
            PROCESS.loop = asyncio.new_event_loop()
            threading.Thread(
                target=PROCESS.loop.run_forever, name="judging", daemon=True
            ).start()
        loop = PROCESS.loop

    async def drain() -> int:
        if PROCESS.judging is None:
            PROCESS.judging = opened.judging()   # its client belongs to this loop
        return await PROCESS.judging.drain(stop_after_s=stop_after_s)

    return asyncio.run_coroutine_threadsafe(drain(), loop).result()


@setup_logging.connect
def _set_up_logging(**_: object) -> None:
    set_up_logging(read_settings().log_level)


@worker_init.connect
@worker_process_init.connect
def _forget_services(**_: object) -> None:
    PROCESS.services = PROCESS.judging = PROCESS.loop = None
    set_up_collecting()


@worker_process_shutdown.connect
@worker_shutdown.connect
def _close_services(**_: object) -> None:
    if PROCESS.services is not None:
        PROCESS.services.close()
