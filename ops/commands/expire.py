"""`tallyard expire`: deletes old traces of a project, as upkeep does with TALLYARD_LOG_DAYS."""

from __future__ import annotations

import click

from ops.commands.session import open_session
from ops.commands.text import counted
from spans.clock import system_clock
from spans.duration import read_duration


@click.command()
@click.option("--older-than", required=True,
              help="Age from which a trace is deleted: 12h, 30d.")
@click.option("--project", help="Project name (not needed if there is only one).")
@click.option("--dry-run", is_flag=True, help="Only count what would be deleted.")
def expire(*, older_than: str, project: str | None, dry_run: bool) -> None:
    """Delete old traces of a project, once.

    A trace is as old as its newest row, by `created`; score spans do not count. With it go its
    scores, outcomes, comments, audit entries and match records. Scoring goes on meanwhile.
    """
    age = read_duration(older_than, path="--older-than")
    with open_session() as session:
        found = session.project(project)
        gone = session.tallyard.logs.expire(
            session.principal, found.id, system_clock() - age, is_dry_run=dry_run
        )
    would = "would be " if dry_run else ""
    click.echo(
        f"{counted(gone.traces, 'trace')} of {found.name} with {counted(gone.rows, 'row')} "
        f"{would}deleted"
    )
