"""`tallyard tail`: scores as they arrive."""

from __future__ import annotations

import threading
from contextlib import suppress

import click

from ops.commands.session import Opened, opened
from spans.ids import ProjectId
from spans.json import JsonObject

POLL_S = 0.5
ROWS_PER_POLL = 500


@click.command()
@click.option("--project", help="Its name; not needed where there is only one.")
def tail(*, project: str | None) -> None:
    """Show the scores of rows as they are written, until Ctrl-C."""
    with opened() as here, suppress(KeyboardInterrupt):
        found = here.project(project)
        click.echo(f"Waiting for scores in {found.name}; Ctrl-C ends this.")
        _follow(here, found.id)


def _follow(here: Opened, project_id: ProjectId) -> None:
    silence = threading.Event()
    logs, seen = here.tallyard.logs, None
    while True:
        changes = logs.changes(here.principal, project_id, after=seen, limit=ROWS_PER_POLL)
        for row in changes.rows:
            if row.scores and not row.is_score_span:
                click.echo(f"{row.id}  {row.name or ''}  {_shown(row.scores)}")
        seen = changes.upto
        if len(changes.rows) < ROWS_PER_POLL:
            silence.wait(POLL_S)


def _shown(scores: JsonObject) -> str:
    return "  ".join(
        f"{name} {value:.2f}" for name, value in scores.items()
        if isinstance(value, int | float)
    )
