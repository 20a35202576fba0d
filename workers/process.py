"""What a worker process holds: its services, drains, sandboxes and event loop.

This is the only state that lives in a module. Services are opened after the fork, because a
child inherits its parent's sockets, and two processes that share one PostgreSQL connection mix
up their conversations.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flows.automations.deliver import Sender
from flows.automations.evaluate import Evaluator
from flows.budgets.held import release_held
from flows.rescore.run import JobRunner
from flows.scoring.drain import Drain
from spans.errors import TransientError
from spans.queues import AUTOMATIONS, HEAVY, JUDGE, MATCH, RESCORE, SANDBOX, UPKEEP, WEBHOOKS
from wiring.automations import make_evaluator
from wiring.services import Services, open_services
from wiring.settings import read_settings
from wiring.workers import heavy_drain, judge_drain
from workers.busy_queues import BusyQueues
from workers.stint import (
    drain_until_empty,
    evaluate_until_done,
    match_until_empty,
    rescore_until_done,
    send_until_done,
    tidy_up,
)

if TYPE_CHECKING:
    from workers.sandboxes import WorkerSandboxes


@dataclass(slots=True)
class WorkerProcess:
    """What this process has opened so far. Each part is made at its first use."""

    services: Services | None = None
    drains: dict[str, Drain] = field(default_factory=dict)
    sandboxes: WorkerSandboxes | None = None
    evaluator: Evaluator | None = None
    sender: Sender | None = None
    runner: JobRunner | None = None
    loop: asyncio.AbstractEventLoop | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    busy: BusyQueues = field(default_factory=BusyQueues)


PROCESS = WorkerProcess()


def run(queue: str) -> str:
    """Runs the queue's work, and returns the task's result, which Flower shows.

    If another task of this process runs the queue's work already, it is left to that one.
    """
    if not PROCESS.busy.enter(queue):
        _services().bell.answer(queue)   # otherwise nobody could ring until its flag ends
        return "left to the task that runs already"
    try:
        return QUEUE_RUNS[queue]()
    finally:
        if PROCESS.busy.leave(queue):
            _services().bell.ring(queue)


def prove_sandbox() -> WorkerSandboxes:
    """This process's sandboxes. The first call proves that they contain code."""
    services = _services()
    with PROCESS.lock:
        if PROCESS.sandboxes is None:
            # Imported here because it takes 5 MB, which other workers do not need.
            from workers.sandboxes import WorkerSandboxes  # noqa: PLC0415

            PROCESS.sandboxes = WorkerSandboxes(services)
        return PROCESS.sandboxes


def forget() -> None:
    """Drops what was inherited from the parent. Each process calls it as it begins."""
    PROCESS.services = PROCESS.loop = PROCESS.sandboxes = None
    PROCESS.evaluator = PROCESS.sender = PROCESS.runner = None
    PROCESS.drains.clear()


def stop_waiting() -> None:
    """Gives up the runs and invocations under way. Their claims go back, and count no death."""
    for drain in list(PROCESS.drains.values()):   # a task may just be adding one
        drain.stopping.set()
    if PROCESS.sandboxes is not None:
        PROCESS.sandboxes.stop()
    if PROCESS.sender is not None:
        PROCESS.sender.stopping.set()
    if PROCESS.runner is not None:
        PROCESS.runner.stopping.set()


def close() -> None:
    """Ends the sandboxes, tells other workers what is left, and closes the connections."""
    if PROCESS.sandboxes is not None:
        PROCESS.sandboxes.close()
    if PROCESS.services is not None:
        for queue in list(PROCESS.drains):
            _ring_for_the_rest(PROCESS.services, queue)
        PROCESS.services.close()


def _ring_for_the_rest(services: Services, queue: str) -> None:
    """Rings for work that this process leaves, which waits for beat's next ring otherwise.

    Its own last ring may have been lost: it rang on a thread that ended with the process, or
    this worker took the message while it was ending.
    """
    with suppress(TransientError):
        if services.ledger.is_waiting(queue):
            services.bell.answer(queue)
            services.bell.ring_now(queue)


def _run_match() -> str:
    return match_until_empty(_services())


def _run_heavy() -> str:
    return _run_drain(HEAVY, heavy_drain)


def _run_judge() -> str:
    return _run_drain(JUDGE, lambda services: judge_drain(services, _loop()))


def _run_sandbox() -> str:
    sandboxes = prove_sandbox()
    if sandboxes.drain is None:
        return sandboxes.sentence
    drain = sandboxes.drain
    return drain_until_empty(
        _services(), SANDBOX, lambda seconds: drain.run(stop_after_s=seconds)
    )


def _run_automations() -> str:
    services = _services()
    release_held(services.held, services.bell.ring)   # since this is rung each second
    if PROCESS.evaluator is None:
        PROCESS.evaluator = make_evaluator(services)
    return evaluate_until_done(services, PROCESS.evaluator)


def _run_webhooks() -> str:
    services = _services()
    if PROCESS.sender is None:
        # Imported here for aiohttp, which takes 20 MB.
        from wiring.webhooks import webhook_sender  # noqa: PLC0415

        PROCESS.sender = webhook_sender(services, _loop())
    return send_until_done(services, PROCESS.sender)


def _run_rescore() -> str:
    services = _services()
    if PROCESS.runner is None:
        # Imported here for the scorers' catalog, which other workers do not need.
        from wiring.rescore import make_job_runner  # noqa: PLC0415

        PROCESS.runner = make_job_runner(services)
    return rescore_until_done(services, PROCESS.runner)


def _run_upkeep() -> str:
    return tidy_up(_services())


# The function that runs each queue's work, which returns the task's result. To add a queue, add
# its line here and in `spans.queues`.
QUEUE_RUNS: Mapping[str, Callable[[], str]] = {
    MATCH: _run_match,
    HEAVY: _run_heavy,
    JUDGE: _run_judge,
    SANDBOX: _run_sandbox,
    AUTOMATIONS: _run_automations,
    WEBHOOKS: _run_webhooks,
    RESCORE: _run_rescore,
    UPKEEP: _run_upkeep,
}


def _run_drain(queue: str, make: Callable[[Services], Drain]) -> str:
    """Runs the queue's drain, which its first task makes."""
    services = _services()
    if queue not in PROCESS.drains:
        PROCESS.drains[queue] = make(services)
    drain = PROCESS.drains[queue]
    return drain_until_empty(
        services, queue, lambda seconds: drain.run(stop_after_s=seconds)
    )


def _services() -> Services:
    with PROCESS.lock:
        if PROCESS.services is None:
            PROCESS.services = open_services(read_settings())
        return PROCESS.services


def _loop() -> asyncio.AbstractEventLoop:
    """This process's event loop, which runs on a thread of its own."""
    with PROCESS.lock:
        if PROCESS.loop is None:
            PROCESS.loop = asyncio.new_event_loop()
            threading.Thread(
                target=PROCESS.loop.run_forever, name="event loop", daemon=True
            ).start()
        return PROCESS.loop
