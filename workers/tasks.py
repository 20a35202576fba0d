"""Celery's tasks: each answers a queue's bell and works until there is nothing left.

Their arguments carry nothing, so a task that is lost, doubled, late or out of order does no
harm: what there is to do, and who does it, stands in PostgreSQL. Each may run twice: entries
and outcomes are leased, and a result counts only under its claim's fence. Their results are
for Flower.
"""

from __future__ import annotations

from celery import Celery

from spans.queues import QUEUES, Queue
from workers.celery import app


def register(celery: Celery, queues: tuple[Queue, ...] = QUEUES) -> None:
    """Give the application one task for each queue."""
    for queue in queues:
        _register(celery, queue)


def _register(celery: Celery, queue: Queue) -> None:
    @celery.task(name=queue.task, shared=False)   # of this application, not of every one
    def run_queue() -> str:
        # Imported when it runs: beat and Flower load this module for the names alone, and
        # would carry scorers, SQL and all in 25 MB each.
        from workers.process import run  # noqa: PLC0415

        return run(queue.name)


register(app)
