"""Shows what applying a file changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from spans.errors import BadInput
from spans.file_plan import ChangeKind, FilePlan
from spans.json import Json
from wiring.yaml_files import read_yaml_file

Body = TypeVar("Body")

MARKS = {
    ChangeKind.CREATE: "+", ChangeKind.CHANGE: "~", ChangeKind.DELETE: "-",
    ChangeKind.KEEP: " ",
}

NOTES = {
    ChangeKind.DELETE: "  (not in the file: deleted)",
    ChangeKind.KEEP: "  (not in the file: kept; --prune deletes it)",
}


def plan_of(file: Path, plan_content: Callable[[Json], FilePlan[Body]]) -> FilePlan[Body]:
    """The plan of applying the file. Raises BadInput, which names the file."""
    content = read_yaml_file(file)
    try:
        return plan_content(content)
    except BadInput as error:
        raise BadInput(f"{file}: {error}") from error


def show_plan(plan: FilePlan[Body]) -> None:
    """Print the plan: a line for each object, and one for each field that changes."""
    click.echo(f"project {plan.project_name}{' (new)' if plan.is_new_project else ''}")
    for change in plan.changes:
        click.echo(f"{MARKS[change.kind]} {change.name}{NOTES.get(change.kind, '')}")
        for line in change.lines:
            click.echo(f"    {line}")
    if all(change.kind is ChangeKind.KEEP for change in plan.changes):
        click.echo("no changes")
