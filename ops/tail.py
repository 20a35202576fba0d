"""`tallyard tail`: scores as they arrive."""

from __future__ import annotations

import threading

import click

from ops.opened import opened

POLL_S = 0.5
ROWS_PER_POLL = 500


@click.command()
@click.option("--project", help="Its name; not needed where there is only one.")
def tail(*, project: str | None) -> None:
    """Show rows and their scores as they are written, until Ctrl-C."""
    silence = threading.Event()
    with opened() as here:
        found = here.project(project)
        following = here.services.following
        seen = following.now()
        while True:
            changes = following.changes(found.id, seen, ROWS_PER_POLL)
            for row in changes.rows:
                if not row.is_score_span:
                    click.echo(f"{row.id}  {row.name or ''}  {row.scores or '-'}")
            seen = changes.upto
            if len(changes.rows) < ROWS_PER_POLL:
                silence.wait(POLL_S)
