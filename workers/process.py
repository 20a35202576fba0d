"""What a worker process holds: its services, and the event loop that judges.

The only module-level state there is. A child inherits its parent's sockets, and two
processes on one PostgreSQL connection garble each other: hence opened after the fork.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flows.scoring.judge_executor import Judging
from wiring.services import Services, open_services
from wiring.settings import read_settings
from workers.loops import (
    judge_until_empty,
    match_until_empty,
    sandbox_until_empty,
    score_heavy_until_empty,
    tidy_up,
)

if TYPE_CHECKING:
    from workers.sandboxes import Jails


@dataclass(slots=True)
class Process:
    """This process's services; made at the first use after the fork."""

    services: Services | None = None
    judging: Judging | None = None
    jails: Jails | None = None
    loop: asyncio.AbstractEventLoop | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


PROCESS = Process()


def run_match() -> str:
    """What the task `match` does; gives what Flower shows of it."""
    return match_until_empty(_services())


def run_heavy() -> str:
    """What the task `score_heavy` does."""
    return score_heavy_until_empty(_services())


def run_judge() -> str:
    """What the task `judge` does."""
    return judge_until_empty(_services(), _judge)


def run_sandbox() -> str:
    """What the task `sandbox` does."""
    jails = prove_sandbox()
    if jails.sandboxing is None:
        return jails.sentence
    return sandbox_until_empty(_services(), jails.sandboxing)


def prove_sandbox() -> Jails:
    """This process's sandboxes, proved at the first call."""
    services = _services()
    with PROCESS.lock:
        if PROCESS.jails is None:
            # 5 MB that the other workers do without.
            from workers.sandboxes import Jails  # noqa: PLC0415

            PROCESS.jails = Jails(services)
        return PROCESS.jails


def run_upkeep() -> str:
    """What the task `upkeep` does."""
    return tidy_up(_services())


def forget() -> None:
    """Leave to the parent what is the parent's; called in each process as it begins."""
    PROCESS.services = PROCESS.judging = PROCESS.loop = PROCESS.jails = None


def stop_waiting() -> None:
    """Give calls and runs under way up, not wait for them: their claims go back, and no worker
    has died of them."""
    if PROCESS.judging is not None:
        PROCESS.judging.stopping.set()
    if PROCESS.jails is not None:
        PROCESS.jails.stop()


def close() -> None:
    """End the sandboxes and close the connections."""
    if PROCESS.jails is not None:
        PROCESS.jails.close()
    if PROCESS.services is not None:
        PROCESS.services.close()


def _services() -> Services:
    with PROCESS.lock:
        if PROCESS.services is None:
            PROCESS.services = open_services(read_settings())
        return PROCESS.services


def _judge(*, stop_after_s: float) -> int:
    """Judge what is due, on this process's one event loop; gives how many that were."""
    opened = _services()
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
