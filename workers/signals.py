"""Reacts to Celery's signals about the life of a process.

Beat and Flower load this module too. What only a worker needs is therefore imported when a
worker begins. That happens in the parent, so that its children share the memory.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from celery.signals import (
    setup_logging,
    worker_init,
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
    worker_shutdown,
    worker_shutting_down,
)

from spans.queues import SANDBOX
from wiring.gc_tuning import tune_gc
from wiring.logs import set_up_logging
from wiring.settings import read_settings

if TYPE_CHECKING:
    from celery.worker.consumer import Consumer

PROCESS = "workers.process"


@setup_logging.connect
def _set_up_logging(**_: object) -> None:
    set_up_logging(read_settings().log_level)


@worker_init.connect
def _import_what_workers_need(**_: object) -> None:
    import_module(PROCESS)
    import_module("autoevals")
    tune_gc()


@worker_process_init.connect
def _begin(**_: object) -> None:
    import_module(PROCESS).forget()


@worker_ready.connect
def _prove_sandbox(sender: Consumer, **_: object) -> None:
    """Stops listening if this worker cannot contain code, so that rings reach one that can."""
    if SANDBOX in sender.app.amqp.queues.consume_from:
        sandboxes = import_module(PROCESS).prove_sandbox()
        if sandboxes.drain is None:
            sender.cancel_task_queue(SANDBOX)


@worker_shutting_down.connect
def _stop_waiting(**_: object) -> None:
    import_module(PROCESS).stop_waiting()


@worker_process_shutdown.connect
@worker_shutdown.connect
def _close(**_: object) -> None:
    import_module(PROCESS).close()
