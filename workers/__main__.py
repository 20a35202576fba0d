"""`python -m workers worker -Q match`: Celery's worker and beat, and no more than they need.

Celery's own command works as well (`celery -A workers worker -Q match`). It loads the commands
that other packages add to it, though, and Flower's are 12 MB in each process.
"""

from __future__ import annotations

import click
from celery.bin.base import CLIContext
from celery.bin.beat import beat
from celery.bin.worker import worker

from workers.celery import app


@click.group(commands={"worker": worker, "beat": beat})
@click.pass_context
def workers(context: click.Context) -> None:
    """Start a worker, or beat."""
    context.obj = CLIContext(app=app, no_color=False, workdir=None)


if __name__ == "__main__":
    workers()
