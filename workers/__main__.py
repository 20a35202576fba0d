"""The command `python -m workers`: Celery's worker, beat and inspect, with little else loaded.

    python -m workers worker -Q match
    python -m workers inspect ping

Celery's own command does the same (`celery -A workers worker -Q match`), but it also loads the
commands that other packages add to it. Of these, Flower's takes 12 MB in each process, and a
third of a second of its start.
"""

from __future__ import annotations

import click
from celery.bin.base import CLIContext
from celery.bin.beat import beat
from celery.bin.control import inspect
from celery.bin.worker import worker

from workers.celery import app


@click.group(commands={"worker": worker, "beat": beat, "inspect": inspect})
@click.pass_context
def workers(context: click.Context) -> None:
    """Start a worker or beat, or ask workers."""
    context.obj = CLIContext(app=app, no_color=False, workdir=None)


if __name__ == "__main__":
    workers()
