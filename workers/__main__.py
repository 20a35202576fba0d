"""The command `python -m workers`, which starts Celery's worker or beat and loads little else.

    python -m workers worker -Q match

Celery's own command does the same (`celery -A workers worker -Q match`), but it also loads the
commands that other packages add to it, of which Flower's takes 12 MB in each process.
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
    """Start a worker or beat."""
    context.obj = CLIContext(app=app, no_color=False, workdir=None)


if __name__ == "__main__":
    workers()
