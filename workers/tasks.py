"""Celery's tasks: one for each queue, which works until the queue is empty.

A task has no arguments, since PostgreSQL holds what there is to do and who does it. So a task
that is lost, late, out of order or delivered twice does no harm. A task may run twice because
entries and outcomes are leased, and a result counts only under its claim's fence. What a task
returns is shown by Flower.
"""

from __future__ import annotations

from celery import Celery

from spans.queues import QUEUES, Queue
from workers.celery import app


def register(celery: Celery, queues: tuple[Queue, ...] = QUEUES) -> None:
    """Registers one task for each queue with the application."""
    for queue in queues:
        _register(celery, queue)


def _register(celery: Celery, queue: Queue) -> None:
    @celery.task(name=queue.task, shared=False)   # registered with this application only
    def run_queue() -> str:
        # Imported only when a task runs. Beat and Flower load this module for the names of the
        # tasks, and would each spend 25 MB on scorers and SQL.
        from workers.process import run  # noqa: PLC0415

        return run(queue.name)


register(app)
