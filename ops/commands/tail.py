"""`tallyard tail`: prints scores as they arrive."""

from __future__ import annotations

import threading
from contextlib import suppress

import click

from ops.commands.session import Session, open_session
from spans.ids import ProjectId
from spans.json import JsonObject

POLL_S = 0.5
"""The pause between two looks for changed rows, once all were printed."""

ROWS_PER_POLL = 500
"""Changed rows that are read at once."""


@click.command()
@click.option("--project", help="Project name (not needed if there is only one).")
def tail(*, project: str | None) -> None:
    """Print the scores of rows as they are stored, until Ctrl-C."""
    with open_session() as session, suppress(KeyboardInterrupt):
        found = session.project(project)
        click.echo(f"Waiting for scores in {found.name}; press Ctrl-C to stop.")
        _follow(session, found.id)


def _follow(session: Session, project_id: ProjectId) -> None:
    pause = threading.Event()   # is never set: its `wait` only sleeps
    logs, seen = session.tallyard.logs, None
    while True:
        changes = logs.changes(session.principal, project_id, after=seen, limit=ROWS_PER_POLL)
        for row in changes.rows:
            if row.scores and not row.is_score_span:
                click.echo(f"{row.id}  {row.name or ''}  {_scores_text(row.scores)}")
        seen = changes.upto
        if len(changes.rows) < ROWS_PER_POLL:
            pause.wait(POLL_S)


def _scores_text(scores: JsonObject) -> str:
    return "  ".join(
        f"{name} {value:.2f}" for name, value in scores.items()
        if isinstance(value, int | float)
    )
