"""`tallyard automations explain`, `test` and `replay`: what one did, and what it would do."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from automations.file import read_file
from automations.model import Automation
from automations.payload import time_text
from automations.signature import message_id
from automations.wire import AutomationFields
from flows.automations.history import HISTORY_MAX, History, history_json
from flows.automations.replays import Replay
from ops.commands.session import open_session
from ops.commands.text import counted
from spans.duration import read_duration
from spans.errors import BadInput
from wiring.yaml_files import read_yaml_file

PROJECT_HELP = "Project name (not needed if there is only one)."


@click.command()
@click.argument("automation")
@click.option("--project", help=PROJECT_HELP)
@click.option("--last", type=click.IntRange(1, HISTORY_MAX), default=20, show_default=True,
              help="How many entries of the history, the newest first.")
@click.option("--json", "wants_json", is_flag=True, help="Print one JSON object.")
def explain(automation: str, *, project: str | None, last: int, wants_json: bool) -> None:
    """Say what AUTOMATION (its name or id) is doing, and what it has found and sent."""
    with open_session() as session:
        tallyard, principal = session.tallyard, session.principal
        found = tallyard.automations.named(
            principal, session.project(project).id, automation
        )
        history = tallyard.automation_history.read(principal, found.id, limit=last)
    if wants_json:
        click.echo(json.dumps(history_json(history), indent=2))
        return
    click.echo(f"{found.name}  ({found.id})")
    click.echo("\n".join(history_lines(history)))


@click.command()
@click.argument("automation")
@click.option("--project", help=PROJECT_HELP)
def test(automation: str, *, project: str | None) -> None:
    """Send a test of AUTOMATION (its name or id), about the logs that match it now."""
    with open_session() as session:
        tallyard, principal = session.tallyard, session.principal
        found = tallyard.automations.named(
            principal, session.project(project).id, automation
        )
        tried = tallyard.automation_trials.test(principal, found.id)
    name = message_id(tried.sent.delivery_id)
    count = tried.report.matches
    matches = f"{counted(count, 'log')} match{'es' if count == 1 else ''}"
    if not tried.sent.delivered:
        click.echo(f"{matches}, but the test {name} failed: {tried.sent.error}", err=True)
        raise click.exceptions.Exit(1)
    click.echo(f"{matches}; delivered the test {name}")


@click.command()
@click.argument("automation", required=False)
@click.option("--file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Replay the automations of this file instead, stored or not.")
@click.option("--since", default="7d", show_default=True,
              help="How far back: 90s, 30m, 1h, 2d.")
@click.option("--project", help=PROJECT_HELP)
def replay(
    automation: str | None, *, file: Path | None, since: str, project: str | None
) -> None:
    """Show what AUTOMATION (its name or id) would have sent. Sends nothing.

    Rows count as they are now, at the time at which they were created; if the filter reads
    scores, at the time of their last one.
    """
    if (automation is None) == (file is None):
        raise BadInput("name an automation, or a file with --file")
    back = read_duration(since)
    with open_session() as session:
        tallyard, principal = session.tallyard, session.principal
        wanted: Sequence[Automation | AutomationFields]
        if file is not None:
            name, wanted = _read(file)
            where = session.project(project or name).id
        else:
            where = session.project(project).id
            wanted = [tallyard.automations.named(principal, where, str(automation))]
        for each in wanted:
            told = tallyard.automation_replays.replay(principal, where, each, since=back)
            click.echo("\n".join(replay_lines(told)))


def _read(file: Path) -> tuple[str, Sequence[AutomationFields]]:
    """The project and the automations of a file. Raises BadInput, which names the file."""
    content = read_yaml_file(file)
    try:
        found = read_file(content, os.environ)  # noqa: TID251 what a user's file names
    except BadInput as error:
        raise BadInput(f"{file}: {error}") from error
    return found.project, found.automations


def history_lines(history: History) -> Iterator[str]:
    """The lines to print: the present state, then each entry with its time."""
    yield from history.present.sentences()
    if history.entries:
        yield ""
    yield from (f"{time_text(entry.at)}  {entry}" for entry in history.entries)
    if history.cursor is not None:
        yield "(there is more: --last gives it)"


def replay_lines(replay: Replay) -> Iterator[str]:
    """The lines to print: each notification with its window, then what it comes to."""
    for each in replay.notifications:
        yield f"{time_text(each.report.time_start)} - {time_text(each.report.time_end)}"
        yield f"    {each.message}"
    yield (
        f"{replay.name}: {counted(len(replay.notifications), 'notification')} about "
        f"{counted(sum(each.report.matches for each in replay.notifications), 'log')} of "
        f"{replay.examined} since {time_text(replay.since)}"
    )
    if replay.due_at is not None:
        yield (
            f"{counted(replay.waiting, 'log')} more would be told at "
            f"{time_text(replay.due_at)}"
        )
