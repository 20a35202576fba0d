"""`tallyard rules`: rules as code, and a rule run on rows that are there."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

import click
import yaml

from flows.access.projects import ListPage, Project
from flows.rules.rules import check_functions
from flows.rules.score_recent import RECENT_MAX, score_recent
from ops.commands.session import Opened, opened
from rules.file import (
    Change,
    ChangeKind,
    FunctionName,
    RulesFile,
    differences,
    read_file,
    rule_for_file,
)
from rules.wire import ONLINE, ProjectScore
from scorers.functions.function import function_id_of
from spans.errors import BadInput, NotFound
from spans.ids import ObjectId, ProjectId, RuleId
from spans.row import ObjectRef, ObjectType

RULES_MAX = 1000
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
        wanted = _read(file, here)
        project = here.services.projects.project_named(here.org_id, wanted.project)
        present = _rules(here, project) if project else []
        by_name = {rule.name: rule for rule in present}
        for body in wanted.rules:
            check_functions(
                here.services.functions, here.org_id, body, present=by_name.get(body.name)
            )
        changes = differences(wanted, present, _Names(here), prune=prune)
        _show(wanted, changes, is_new=project is None)
        if not dry_run:
            _apply(here, wanted, project, present, changes)


@rules.command()
@click.option("--project", help="Its name; not needed where there is only one.")
def export(*, project: str | None) -> None:
    """Write the project's rules as a file for `rules apply`."""
    with opened() as here:
        found = here.project(project)
        content = {
            "project": found.name,
            "rules": [
                rule_for_file(
                    rule.name, rule.description, rule.config, found.name, _Names(here)
                )
                for rule in sorted(_rules(here, found), key=lambda rule: rule.created)
            ],
        }
    click.echo(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), nl=False)


@rules.command(name="list")
@click.option("--project", help="Its name; not needed where there is only one.")
def list_rules(*, project: str | None) -> None:
    """List the project's rules."""
    with opened() as here:
        for rule in _rules(here, here.project(project)):
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
        found = here.project(project)
        services = here.services
        done = score_recent(
            services.recent,
            rule_named(here, found, rule),
            where=ObjectRef(found.id, ObjectType.PROJECT_LOGS, ObjectId(found.id)),
            last=last,
            clock=services.clock,
        )
        for queue in done.queues:
            services.bell.ring_now(queue)
    click.echo(
        f"{done.selected} rows selected among the latest {done.examined}; "
        f"{done.started} outcomes started, {done.outcomes - done.started} were there."
    )


@dataclass(frozen=True, slots=True)
class _Names:
    """Implements rules.file.FunctionNames."""

    here: Opened

    def id_of(self, project: str, slug: str) -> str:
        """See FunctionNames."""
        services, org_id = self.here.services, self.here.org_id
        where = services.projects.project_named(org_id, project)
        found = services.functions.named(org_id, where.id, slug) if where else None
        if found is None:
            raise NotFound(f"the project {project!r} has no function {slug!r}: push it first")
        return str(found.id)

    def name_of(self, function_id: str) -> FunctionName | None:
        """See FunctionNames."""
        services, org_id = self.here.services, self.here.org_id
        known = function_id_of(function_id)
        found = services.functions.find(org_id, known) if known else None
        where = services.projects.find_project(org_id, found.project_id) if found else None
        if found is None or where is None:
            return None
        return FunctionName(project=where.name, slug=found.body.slug)


def _read(file: Path, here: Opened) -> RulesFile:
    try:
        return read_file(yaml.safe_load(file.read_text()), _Names(here))
    except yaml.YAMLError as error:
        raise BadInput(f"{file} is no YAML: {error}") from error
    except BadInput as error:
        raise BadInput(f"{file}: {error}") from error


def _rules(here: Opened, project: Project) -> list[ProjectScore]:
    found = here.services.rules.list_rules(
        here.org_id, ListPage(limit=RULES_MAX), project.id
    )
    return [rule for rule in found if rule.score_type == ONLINE]


def rule_named(here: Opened, project: Project, text: str) -> ProjectScore:
    """The project's rule of this name or id. Raises NotFound."""
    for rule in _rules(here, project):
        if text in {rule.name, str(rule.id)}:
            return rule
    raise NotFound(f"the project {project.name!r} has no rule {text!r}: see `rules list`")


def _show(wanted: RulesFile, changes: tuple[Change, ...], *, is_new: bool) -> None:
    click.echo(f"project {wanted.project}{' (new)' if is_new else ''}")
    for change in changes:
        click.echo(f"{MARKS[change.kind]} {change.name}{NOTES.get(change.kind, '')}")
        for line in change.lines:
            click.echo(f"    {line}")
    if all(change.kind is ChangeKind.KEEP for change in changes):
        click.echo("no changes")


def _apply(
    here: Opened,
    wanted: RulesFile,
    project: Project | None,
    present: list[ProjectScore],
    changes: tuple[Change, ...],
) -> None:
    services = here.services
    if project is None:
        project, _ = services.projects.get_or_create_project(
            here.org_id, ProjectId(uuid.uuid4()), wanted.project, None
        )
    by_name = {rule.name: rule for rule in present}
    for change in changes:
        if change.body is not None:
            services.rules.create_rule(
                project.id, RuleId(uuid.uuid4()), change.body, replace=True
            )
        elif change.kind is ChangeKind.DELETE:
            services.rules.delete_rule(by_name[change.name])
