"""`tallyard explain`: why a span has the scores that it has."""

from __future__ import annotations

import json

import click

from flows.explain import Explanation, as_json, explain
from ops.opened import opened


@click.command(name="explain")
@click.argument("span_id")
@click.option("--project", help="Its name, where the id occurs in several.")
@click.option("--json", "wants_json", is_flag=True, help="Print one JSON object.")
def explain_command(span_id: str, *, project: str | None, wants_json: bool) -> None:
    """Say of each rule what it did with the span (SPAN_ID is its row id or span id)."""
    with opened() as here:
        only = here.project(project).id if project else None
        told = explain(here.services.explain, here.org_id, only, span_id)
    if wants_json:
        click.echo(json.dumps(as_json(told), indent=2, default=str))
    elif isinstance(told, Explanation):
        _show(told)
    else:
        click.echo(f"{span_id!r} could be any of these; ask by the row id, with --project:")
        for one in told:
            click.echo(
                f"  row {one.id}  span {one.span_id}  {one.name or ''}  "
                f"(project {one.project_name})"
            )


def _show(told: Explanation) -> None:
    click.echo(f"row {told.id}  span {told.span_id}  trace {told.root_span_id}")
    finished = "yes" if told.is_finished else "no"
    click.echo(f"finished: {finished}   scores: {told.scores or '-'}")
    if not told.rules:
        click.echo("the project has no rules: make one with `tallyard rules apply`")
    for rule in told.rules:
        click.echo(f"\n{rule.rule_name}\n  {rule.status}: {rule.text}")
