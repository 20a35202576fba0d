"""`tallyard outcomes`: shows the errored outcomes, and runs them again."""

from __future__ import annotations

import click

from flows.outcomes.retry import read_retry
from ops.commands.session import open_session
from ops.commands.text import indented
from spans.scoring import Role

MESSAGE_COLUMN = 9
"""The column, from 0, at which messages start: below the error class."""


@click.group()
def outcomes() -> None:
    """See which outcomes errored, and run them again."""


@outcomes.command()
@click.option("--project", help="Project name (not needed if there is only one).")
def errors(*, project: str | None) -> None:
    """Count the errored outcomes by rule, scorer and error class."""
    with open_session() as session:
        found = session.tallyard.outcomes.errors(session.principal, session.project(project).id)
    for summary in found:
        role = "" if summary.role == Role.LIVE else f"{summary.role} "
        asked = summary.rule_name or "a deleted rule"
        if summary.rule_id is None:
            asked = f"re-score job {summary.rescore_job_id}" if summary.rescore_job_id else (
                "asked for by hand"
            )
        click.echo(
            f"{summary.count:>7}  {summary.error_class:<18} {role}{summary.scorer}  "
            f"({asked}, last {summary.last_at})\n"
            f"{' ' * MESSAGE_COLUMN}{indented(summary.last_message, MESSAGE_COLUMN)}"
        )
    if found:
        click.echo(
            "run those of rules again with `tallyard outcomes retry`, those of jobs with "
            "`tallyard rescore --only errored`"
        )
    else:
        click.echo("no outcome is errored")


@outcomes.command()
@click.option("--class", "error_class",
              help="Only this error class, as `outcomes errors` shows it.")
@click.option("--since", help="Only outcomes that ended within this time: 90s, 30m, 1h, 2d.")
@click.option("--rule", help="Only outcomes of this rule (its name or id).")
@click.option("--project", help="Project name (not needed if there is only one).")
def retry(
    *, error_class: str | None, since: str | None, rule: str | None, project: str | None
) -> None:
    """Run errored outcomes again, counting their attempts from the start."""
    with open_session() as session:
        tallyard, principal = session.tallyard, session.principal
        found = session.project(project)
        rule_id = tallyard.rules.named(principal, found.id, rule).id if rule else None
        request = read_retry(error_class, since, rule_id)
        count = tallyard.outcomes.retry(principal, found.id, request)
    click.echo(f"{count} outcomes are pending again")
