"""`tallyard scorers`: pushes your own scorers, tests them on stored rows, compares versions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from flows.access.projects import ListPage, Project
from flows.functions.comparison import (
    DIFF_ROWS_MAX,
    TEST_ROWS_MAX,
    Cost,
    Difference,
    difference_json,
    test_json,
    values_of,
)
from flows.functions.invocations import TestRun
from flows.functions.lookup import FunctionBySlug, FunctionChoice
from flows.functions.shadows import PAIRS_DEFAULT, PAIRS_MAX, shadow_json
from flows.logs.row_selection import LAST_DEFAULT, RowSelection
from ops.commands.session import Session, open_session
from ops.commands.text import counted
from scorers.functions.body import FunctionBody, read_function
from scorers.functions.file import RUNTIMES, YAML, Naming, code_function, judge_function
from scorers.functions.function import (
    Definition,
    Function,
    FunctionFilter,
    IfExists,
    Written,
    read_version,
)
from spans.errors import BadInput, InvalidSource, NotFound
from spans.json import JsonObject
from spans.outcome import Errored, Verdict
from spans.scoring import Role
from wiring.text_files import read_text_file
from wiring.yaml_files import read_yaml, read_yaml_file

SCORERS_MAX = 1000
"""Scorers that `list` shows, the newest first."""

FLIPS_PRINTED = 10
"""Flips that are printed: as many as fit on a screen. `--json` gives the others too."""

MODELS = "models"
"""The sandbox setting that is a list, and may be written with commas alone."""

a_file = click.Path(exists=True, dir_okay=False, path_type=Path)
of_project = click.option("--project", help="Project name (not needed if there is only one).")
as_json = click.option("--json", "wants_json", is_flag=True, help="Print one JSON object.")


@click.group()
def scorers() -> None:
    """Push, test and compare scorers of your own."""


@scorers.command()
@click.argument("file", type=a_file)
@of_project
@click.option("--name", help="Score name (default: the file's name).")
@click.option("--slug", help="Permanent identifier (default: derived from the name).")
@click.option(
    "--shadow", type=click.FloatRange(0, 1),
    help="Run the new version as a shadow beside the one in force, on this share of traces; "
    "its scores are not shown.",
)
@click.option(
    "--sandbox", "sandbox_settings", multiple=True, metavar="KEY=VALUE",
    help="A sandbox setting, such as isolation=record, time_s=2, memory_mb=256 or, for models "
    "that the code calls, models=gpt-4o,gpt-4o-mini; repeatable.",
)
@as_json
def push(
    *, file: Path, project: str | None, name: str | None, slug: str | None,
    shadow: float | None, sandbox_settings: tuple[str, ...], wants_json: bool,
) -> None:
    """Create a scorer from FILE, or a new version of the scorer with the same slug.

    FILE is code (.py, .ts, .js), or an LLM judge (.yaml).
    """
    body = _read(file, Naming(name=name, slug=slug), sandbox_settings)
    with open_session() as session:
        written = _push(session, session.project(project), file, body, shadow)
    before, after = written.before, written.function
    newest = after.shadow.version if after.shadow and shadow is not None else after.version
    is_new = before is None or newest not in {
        before.version, before.shadow.version if before.shadow else None,
    }
    if wants_json:
        _print({
            "id": str(after.id), "slug": after.body.slug, "_xact_id": str(newest),
            "is_new": is_new, "in_force": str(after.in_force),
        })
        return
    click.echo(f"{after.body.slug}  {after.id}")
    state = "in force" if newest == after.in_force else f"a shadow, rate {shadow:g}"
    click.echo(f"version {newest}: {state}{'' if is_new else ' (unchanged)'}")


@scorers.command()
@click.argument("scorer")
@of_project
@click.option("--version", help="Version to test (default: the one in force).")
@click.option("--span", "ids", multiple=True, help="Row id or span id to test on; repeatable.")
@click.option(
    "--last", type=click.IntRange(1, TEST_ROWS_MAX), default=LAST_DEFAULT, show_default=True,
    help="Number of rows: the latest finished ones.",
)
@click.option("--filter", "condition", help="Only rows that pass this filter, as in a rule.")
@as_json
def test(
    *, scorer: str, project: str | None, version: str | None, ids: tuple[str, ...], last: int,
    condition: str | None, wants_json: bool,
) -> None:
    """Run SCORER (a file or a slug) on stored rows, and save nothing."""
    selection = RowSelection(ids=ids[:TEST_ROWS_MAX], last=last, filter=condition)
    with open_session() as session:
        run = _test(session, session.project(project), scorer, version, selection)
    rows, verdicts = run.rows, run.verdicts
    if wants_json:
        _print(test_json(rows, verdicts))
        return
    for row, verdict in zip(rows, verdicts, strict=True):
        first, *rest = _verdict_text(verdict).splitlines()
        click.echo(f"{row.id}  {first}  {verdict.run_ms:.1f} ms")
        for line in rest:
            click.echo(f"    {line}")
        for line in (verdict.log or "").splitlines():
            click.echo(f"    | {line}")
    click.echo(_summary(verdicts))


@scorers.command()
@click.argument("slug")
@click.option(
    "--from", "before", help="Old version (default: the one before the new version)."
)
@click.option("--to", "after", help="New version (default: the one in force).")
@of_project
@click.option(
    "--last", type=click.IntRange(1, DIFF_ROWS_MAX), default=200, show_default=True,
    help="Number of rows: the latest finished ones.",
)
@click.option("--filter", "condition", help="Only rows that pass this filter, as in a rule.")
@as_json
def diff(
    *, slug: str, before: str | None, after: str | None, project: str | None, last: int,
    condition: str | None, wants_json: bool,
) -> None:
    """Run two versions of the scorer SLUG on the same rows, and save nothing."""
    with open_session() as session:
        found = session.project(project)
        compared = asyncio.run(session.tallyard.invocations.diff(
            session.principal, _by_slug(found, slug, after),
            RowSelection(last=last, filter=condition),
            before=None if before is None else read_version(before),
        ))
        url = session.settings.public_url or ""
    if not compared.difference.rows:
        raise _no_rows(found)
    if wants_json:
        old, new = str(compared.before), str(compared.after)
        difference = difference_json(compared.difference, url)
        _print({"role": Role.PREVIEW.value, "from": old, "to": new, **difference})
        return
    _show_difference(compared.difference)


@scorers.command()
@click.argument("slug")
@of_project
@click.option(
    "--last", type=click.IntRange(1, PAIRS_MAX), default=PAIRS_DEFAULT, show_default=True,
    help="Number of outcomes: the shadow's latest.",
)
@as_json
def shadow(*, slug: str, project: str | None, last: int, wants_json: bool) -> None:
    """Compare the scores of SLUG's shadow with those of the version in force."""
    with open_session() as session:
        compared = session.tallyard.functions.compare_shadow(
            session.principal, _by_slug(session.project(project), slug), last
        )
        url = session.settings.public_url or ""
    if wants_json:
        _print(shadow_json(compared, url))
        return
    shadow = compared.shadow
    click.echo(
        f"{compared.function.in_force} in force, {shadow.version} its shadow "
        f"(rate {shadow.rate:g})"
    )
    if not compared.difference.rows:
        click.echo("nothing to compare yet")
        return
    _show_difference(compared.difference)


@scorers.command()
@click.argument("slug")
@of_project
@as_json
def versions(*, slug: str, project: str | None, wants_json: bool) -> None:
    """List the versions of the scorer SLUG, newest first."""
    with open_session() as session:
        which = _by_slug(session.project(project), slug)
        found = session.tallyard.functions.versions(session.principal, which)
    if wants_json:
        _print({"versions": [
            {
                "_xact_id": str(function.version), "name": function.body.name,
                "kind": function.body.kind.value, "state": _state(function),
            }
            for function in found
        ]})
        return
    for function in found:
        state = f"  ({_state(function)})" if _state(function) else ""
        click.echo(f"{function.version}  {function.body.name}{state}")


@scorers.command(name="list")
@of_project
@as_json
def list_scorers(*, project: str | None, wants_json: bool) -> None:
    """List the project's scorers."""
    with open_session() as session:
        found = session.project(project)
        functions = session.tallyard.functions.list(
            session.principal, ListPage(limit=SCORERS_MAX), FunctionFilter(project_id=found.id)
        )
    scorers = [function for function in functions if function.body.queue is not None]
    if wants_json:
        _print({"scorers": [_scorer_json(scorer) for scorer in scorers]})
        return
    for scorer in scorers:
        body, problem = scorer.body, scorer.as_version().problem
        click.echo(f"{body.slug:<24} {body.kind.value:<11} {scorer.version}  {body.name}")
        if scorer.shadow is not None:
            click.echo(f"    shadow: {scorer.shadow.version}, rate {scorer.shadow.rate:g}")
        if problem is not None:
            click.echo(f"    cannot run: {problem}")


def _read(file: Path, naming: Naming, settings: Sequence[str] = ()) -> JsonObject:
    """The file's function, as a request body. Raises BadInput, which names the file."""
    is_yaml = file.suffix in YAML
    content = read_yaml_file(file) if is_yaml else read_text_file(file)
    try:
        if is_yaml:
            return judge_function(file.stem, content, naming)
        body = code_function(file.stem, file.suffix, str(content), naming)
    except BadInput as error:
        raise BadInput(f"{file}: {error}") from error
    if settings:
        body["metadata"] = {"sandbox": dict(map(_setting, settings))}
    return body


def _setting(text: str) -> tuple[str, Any]:
    key, separator, value = text.partition("=")
    if not separator:
        raise BadInput(f"--sandbox {text}: write KEY=VALUE")
    if key == MODELS and not value.lstrip().startswith("["):
        return key, [name for name in map(str.strip, value.split(",")) if name]
    return key, read_yaml(value, source=f"--sandbox {key}")


def _push(
    session: Session, project: Project, file: Path, body: JsonObject, shadow: float | None
) -> Written:
    """Push the file's function. Raises BadInput, with the line, for what is wrong in it."""
    function = _checked(file, body)
    definition = Definition(
        project_id=project.id, body=function, if_exists=IfExists.REPLACE, shadow_rate=shadow
    )
    try:
        return asyncio.run(session.tallyard.functions.push(session.principal, definition))
    except InvalidSource as error:
        raise BadInput(f"{_place(file, error)}: {error}") from error


def _checked(file: Path, body: JsonObject) -> FunctionBody:
    try:
        return read_function(body)
    except (BadInput, InvalidSource) as error:
        raise BadInput(f"{_place(file, error)}: {error}") from error


def _place(file: Path, error: Exception) -> str:
    """FILE:LINE:COLUMN, as compilers write it, as far as the error knows the place."""
    line, column = getattr(error, "line", None), getattr(error, "column", None)
    return ":".join(str(part) for part in (file, line, column) if part is not None)


def _test(
    session: Session, project: Project, scorer: str, version: str | None,
    selection: RowSelection,
) -> TestRun:
    """Run the function of a file, or of a slug, on the selected rows.

    Raises NotFound if the selection has no rows.
    """
    file = Path(scorer)
    is_file = bool(file.suffix) and file.is_file()   # slugs have no suffix
    if not is_file and file.suffix in {*RUNTIMES, *YAML}:
        raise NotFound(f"there is no file {scorer!r}")
    which: FunctionChoice = (
        _checked(file, _read(file, Naming())) if is_file
        else _by_slug(project, scorer, version)
    )
    try:
        run = asyncio.run(
            session.tallyard.invocations.test(session.principal, project.id, which, selection)
        )
    except InvalidSource as error:
        raise BadInput(f"{_place(file, error)}: {error}") from error
    if not run.rows:
        raise _no_rows(project)
    return run


def _by_slug(project: Project, slug: str, version: str | None = None) -> FunctionBySlug:
    return FunctionBySlug(
        project_name=project.name, slug=slug,
        version=None if version is None else read_version(version),
    )


def _no_rows(project: Project) -> NotFound:
    return NotFound(
        f"the project {project.name!r} has no finished span that passes the filter"
    )


def _state(function: Function) -> str | None:
    """Whether rules run this version: "in force", "shadow", or None if they do not."""
    if function.version == function.in_force:
        return "in force"
    shadow = function.shadow
    return "shadow" if shadow and function.version == shadow.version else None


def _verdict_text(verdict: Verdict) -> str:
    if isinstance(verdict, Errored):
        return f"{verdict.failure.error_class}: {verdict.failure.message}"
    scores = values_of(verdict)
    return "  ".join(f"{name} {value:.2f}" for name, value in scores.items()) or "declined"


def _summary(verdicts: Sequence[Verdict]) -> str:
    cost = Cost.of(verdicts)
    values = [value for verdict in verdicts for value in values_of(verdict).values()]
    mean = f", mean {sum(values) / len(values):.3f}" if values else ""
    rows, scores = counted(len(verdicts), "row"), counted(len(values), "score")
    return f"{rows}: {scores}{mean}, {_cost(cost)}; nothing was saved"


def _cost(cost: Cost) -> str:
    parts = [counted(cost.errors, "error"), f"{cost.run_ms:.0f} ms"]
    if cost.calls:
        tokens = cost.prompt_tokens + cost.completion_tokens
        parts.append(f"{counted(cost.calls, 'judge call')}, {counted(tokens, 'token')}")
    return ", ".join(parts)


def _show_difference(difference: Difference) -> None:
    agreement = difference.agreement or 0.0
    mean = difference.mean_difference
    rows = counted(difference.rows, "row")
    click.echo(f"{rows}, the same score on {agreement:.1%} of them")
    if mean is not None:
        click.echo(f"mean difference {mean:+.3f} (new minus old)")
    click.echo(f"old: {_cost(difference.before)}\nnew: {_cost(difference.after)}")
    click.echo(counted(len(difference.flips), "flip"))
    for flip in difference.flips[:FLIPS_PRINTED]:
        old, new = (
            _verdict_text(verdict).splitlines()[0] for verdict in (flip.before, flip.after)
        )
        click.echo(f"  {flip.row.id}  {old}  ->  {new}")
    if (left := len(difference.flips) - FLIPS_PRINTED) > 0:
        click.echo(f"  and {left} more")
    if difference.flips:
        click.echo("`tallyard explain ID` shows more of one flip, --json of all of them")


def _scorer_json(function: Function) -> JsonObject:
    shadow = function.shadow
    return {
        "id": str(function.id), "slug": function.body.slug, "name": function.body.name,
        "kind": function.body.kind.value, "_xact_id": str(function.version),
        "shadow": None if shadow is None else {
            "version": str(shadow.version), "rate": shadow.rate,
        },
        "problem": function.as_version().problem,
    }


def _print(content: JsonObject) -> None:
    click.echo(json.dumps(content, indent=2, ensure_ascii=False))
