"""`tallyard rules`: rules as code, and a rule run on rows that are there."""

from __future__ import annotations

from pathlib import Path

import click

from flows.access.projects import ListPage
from flows.rules.rules import RULES_MAX
from flows.rules.rules_file import FilePlan
from flows.rules.score_recent import RECENT_MAX
from ops.commands.session import Opened, opened
from ops.commands.yaml_files import read_yaml_file, write_yaml
from rules.file import ChangeKind
from rules.wire import ONLINE
from spans.errors import BadInput

MARKS = {
    ChangeKind.CREATE: "+", ChangeKind.CHANGE: "~", ChangeKind.DELETE: "-",
    ChangeKind.KEEP: " ",
}

NOTES = {
    ChangeKind.DELETE: "  (not in the file: deleted)",
    ChangeKind.KEEP: "  (not in the file: kept; --prune deletes it)",
}


@click.group()
def rules() -> None:
    """Apply, export and try rules."""


@rules.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Only show the difference.")
@click.option("--prune", is_flag=True, help="Delete rules that are not in the file.")
def apply(file: Path, *, dry_run: bool, prune: bool) -> None:
    """Make the project's rules what FILE says; shows the difference first."""
    with opened() as here:
        plan = _plan(file, here, prune=prune)
        _show(plan)
        if not dry_run:
            here.tallyard.rules.apply(here.principal, plan)


@rules.command()
@click.option("--project", help="Its name; not needed where there is only one.")
def export(*, project: str | None) -> None:
    """Write the project's rules as a file for `rules apply`."""
    with opened() as here:
        content = here.tallyard.rules.export(here.principal, here.project(project).id)
    click.echo(write_yaml(content), nl=False)


@rules.command(name="list")
@click.option("--project", help="Its name; not needed where there is only one.")
def list_rules(*, project: str | None) -> None:
    """List the project's rules."""
    with opened() as here:
        found = here.tallyard.rules.list(
            here.principal, ListPage(limit=RULES_MAX), project_id=here.project(project).id,
            score_type=ONLINE,
        )
    for rule in found:
        click.echo(f"{rule.id}  {rule.name}")


@rules.command(name="score-recent")
@click.argument("rule")
@click.option(
    "--last", type=click.IntRange(1, RECENT_MAX), default=50, show_default=True,
    help="How many rows that the rule selects.",
)
@click.option("--project", help="Its name; not needed where there is only one.")
def recent(rule: str, *, last: int, project: str | None) -> None:
    """Run RULE (its name or id) on the latest rows that it selects."""
    with opened() as here:
        rules, principal = here.tallyard.rules, here.principal
        found = rules.named(principal, here.project(project).id, rule)
        done = rules.score_recent(principal, found.id, last)
    click.echo(
        f"{done.selected} rows selected among the latest {done.examined}; "
        f"{done.started} outcomes started, {done.outcomes - done.started} were there."
    )


def _plan(file: Path, here: Opened, *, prune: bool) -> FilePlan:
    content = read_yaml_file(file)
    try:
        return here.tallyard.rules.plan_file(here.principal, content, prune=prune)
    except BadInput as error:
        raise BadInput(f"{file}: {error}") from error


def _show(plan: FilePlan) -> None:
    click.echo(f"project {plan.project_name}{' (new)' if plan.is_new_project else ''}")
    for change in plan.changes:
        click.echo(f"{MARKS[change.kind]} {change.name}{NOTES.get(change.kind, '')}")
        for line in change.lines:
            click.echo(f"    {line}")
    if all(change.kind is ChangeKind.KEEP for change in plan.changes):
        click.echo("no changes")
