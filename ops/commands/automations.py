"""`tallyard automations`: keeps automations in a file, tries them, and says what they did."""

from __future__ import annotations

import os
from pathlib import Path

import click

from automations.model import Automation, AutomationStatus
from flows.access.projects import ListPage
from flows.automations.automations import PAGE
from ops.commands.automation_trials import explain, replay, test
from ops.commands.plan import plan_of, show_plan
from ops.commands.session import open_session
from wiring.yaml_files import write_yaml


@click.group()
def automations() -> None:
    """Apply, export and list automations, try one, and see what it did."""


automations.add_command(explain)
automations.add_command(test)
automations.add_command(replay)


@automations.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Only show the difference.")
@click.option("--prune", is_flag=True, help="Delete automations that are not in the file.")
def apply(file: Path, *, dry_run: bool, prune: bool) -> None:
    """Show how FILE differs from the project's automations, then apply it.

    Prints the secret of each new webhook, this once. {env: NAME} in the file stands for the
    value of that variable.
    """
    variables = os.environ  # noqa: TID251 what a user's file names, no setting of ours
    with open_session() as session:
        automations, principal = session.tallyard.automations, session.principal
        plan = plan_of(
            file,
            lambda content: automations.plan_file(principal, content, variables, prune=prune),
        )
        show_plan(plan)
        written = [] if dry_run else automations.apply(principal, plan)
    for each in written:
        if each.secret is not None:
            click.echo(f"secret of {each.automation.name}, shown this once: {each.secret}")


@automations.command()
@click.option("--project", help="Project name (not needed if there is only one).")
def export(*, project: str | None) -> None:
    """Print the project's automations as a file for `automations apply`, without secrets."""
    with open_session() as session:
        content = session.tallyard.automations.export(
            session.principal, session.project(project).id
        )
    click.echo(write_yaml(content), nl=False)


@automations.command(name="list")
@click.option("--project", help="Project name (not needed if there is only one).")
def list_automations(*, project: str | None) -> None:
    """List the project's automations, newest first, and which of them are paused."""
    with open_session() as session:
        project_id = session.project(project).id
        page = ListPage(limit=PAGE)
        while found := session.tallyard.automations.list(
            session.principal, page, project_id=project_id
        ):
            for automation in found:
                click.echo(f"{automation.id}  {automation.name}{_note(automation)}")
            page = ListPage(limit=PAGE, starting_after=str(found[-1].id))


def _note(automation: Automation) -> str:
    if automation.disabled_reason is not None:
        return f"  (paused by Tallyard: {automation.disabled_reason})"
    return "  (paused)" if automation.status is AutomationStatus.PAUSED else ""
