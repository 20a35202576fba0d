"""`tallyard rules`: keeps rules in a file, and runs a rule on stored rows."""

from __future__ import annotations

from pathlib import Path

import click

from flows.access.projects import ListPage
from flows.rescore.rescores import RECENT_MAX
from flows.rules.rules import RULES_MAX
from ops.commands.plan import plan_of, show_plan
from ops.commands.session import open_session
from rules.wire import ONLINE
from wiring.yaml_files import write_yaml


@click.group()
def rules() -> None:
    """Apply, export and list rules, and run one on stored rows."""


@rules.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Only show the difference.")
@click.option("--prune", is_flag=True, help="Delete rules that are not in the file.")
def apply(file: Path, *, dry_run: bool, prune: bool) -> None:
    """Show how FILE differs from the project's rules, then apply it."""
    with open_session() as session:
        rules, principal = session.tallyard.rules, session.principal
        plan = plan_of(file, lambda content: rules.plan_file(principal, content, prune=prune))
        show_plan(plan)
        if not dry_run:
            rules.apply(principal, plan)


@rules.command()
@click.option("--project", help="Project name (not needed if there is only one).")
def export(*, project: str | None) -> None:
    """Print the project's rules as a file for `rules apply`."""
    with open_session() as session:
        content = session.tallyard.rules.export(session.principal, session.project(project).id)
    click.echo(write_yaml(content), nl=False)


@rules.command(name="list")
@click.option("--project", help="Project name (not needed if there is only one).")
def list_rules(*, project: str | None) -> None:
    """List the project's rules."""
    with open_session() as session:
        found = session.tallyard.rules.list(
            session.principal, ListPage(limit=RULES_MAX),
            project_id=session.project(project).id, score_type=ONLINE,
        )
    for rule in found:
        click.echo(f"{rule.id}  {rule.name}")


@rules.command(name="score-recent")
@click.argument("rule")
@click.option(
    "--last", type=click.IntRange(1, RECENT_MAX), default=50, show_default=True,
    help="Number of rows to score: the latest that the rule selects.",
)
@click.option("--project", help="Project name (not needed if there is only one).")
def recent(rule: str, *, last: int, project: str | None) -> None:
    """Make a re-score job of the latest rows that RULE (its name or id) selects.

    The rule's target and filter count; its sampling rate does not. Rows that its scorers have
    scored already are left out. `tallyard rescore --rule RULE` takes any number of rows.
    """
    with open_session() as session:
        tallyard, principal = session.tallyard, session.principal
        found = tallyard.rules.named(principal, session.project(project).id, rule)
        job, _ = tallyard.rescores.score_recent(principal, found.id, last)
    click.echo(f"started the job {job.id}: `tallyard rescore show {job.id} --watch`")
