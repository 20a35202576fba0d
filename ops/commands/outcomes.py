"""`tallyard outcomes`: what errored, and running it again."""

from __future__ import annotations

import click

from flows.outcomes.retry import read_retry
from ops.commands.session import opened
from ops.commands.text import indented
from spans.scoring import Role

MESSAGE_COLUMN = 9
"""Where messages start: below the class."""


@click.group()
def outcomes() -> None:
    """See what errored, and run it again."""


@outcomes.command()
@click.option("--project", help="Its name; not needed where there is only one.")
def errors(*, project: str | None) -> None:
    """Sum up the errored outcomes by rule, scorer and class."""
    with opened() as here:
        found = here.tallyard.outcomes.errors(here.principal, here.project(project).id)
    for one in found:
        click.echo(
            f"{one.count:>7}  {one.error_class:<18} "
            f"{'' if one.role == Role.LIVE else f'{one.role} '}{one.scorer}  "
            f"({one.rule_name or 'a deleted rule'}, last {one.last_at})\n"
            f"         {indented(one.last_message, MESSAGE_COLUMN)}"
        )
    if found:
        click.echo("run them again with `tallyard outcomes retry` (not those of deleted rules)")
    else:
        click.echo("nothing is errored")


@outcomes.command()
@click.option("--class", "error_class", help="Only this class, as `outcomes errors` shows it.")
@click.option("--since", help="Only what ended within this time: 90s, 30m, 1h, 2d.")
@click.option("--rule", help="Only this rule's (its name or id).")
@click.option("--project", help="Its name; not needed where there is only one.")
def retry(
    *, error_class: str | None, since: str | None, rule: str | None, project: str | None
) -> None:
    """Run errored outcomes again, from their first attempt."""
    with opened() as here:
        tallyard, principal, found = here.tallyard, here.principal, here.project(project)
        rule_id = tallyard.rules.named(principal, found.id, rule).id if rule else None
        asked = read_retry(error_class, since, rule_id)
        count = tallyard.outcomes.retry(principal, found.id, asked)
    click.echo(f"{count} outcomes are pending again")
