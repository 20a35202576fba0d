"""`tallyard explain`: why a span has the scores that it has."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click

from flows.outcomes.explain import (
    Explanation,
    OutcomeView,
    RuleAnswer,
    as_json,
    outcome_text,
)
from ops.commands.session import opened

LOG_LINES_MAX = 20
"""Of one outcome's log: enough to recognise a run by; `--json` has all that is kept."""


@click.command(name="explain")
@click.argument("span_id")
@click.option("--project", help="Its name, where the id occurs in several.")
@click.option("--json", "wants_json", is_flag=True, help="Print one JSON object.")
def explain_command(span_id: str, *, project: str | None, wants_json: bool) -> None:
    """Say of each rule what it did with the span (SPAN_ID is its row id or span id)."""
    with opened() as here:
        only = here.project(project).id if project else None
        told = here.tallyard.outcomes.explain(here.principal, only, span_id)
    if wants_json:
        click.echo(json.dumps(as_json(told), indent=2, default=str))
    elif isinstance(told, Explanation):
        click.echo("\n".join(shown(told)))
    else:
        click.echo(f"{span_id!r} could be any of these; ask by the row id, with --project:")
        for one in told:
            click.echo(
                f"  row {one.id}  span {one.span_id}  {one.name or ''}  "
                f"(project {one.project_name})"
            )


def shown(told: Explanation) -> Iterator[str]:
    """The lines for people: each rule, beneath it its scorers, beneath each what it printed."""
    yield f"row {told.id}  span {told.span_id}  trace {told.root_span_id}"
    finished = "yes" if told.is_finished else "no"
    yield f"finished: {finished}   scores: {told.scores or '-'}"
    if not told.rules:
        yield "the project has no rules: make one with `tallyard rules apply`"
    for rule in told.rules:
        yield ""
        yield rule.rule_name
        yield from _rule(rule)


def _rule(rule: RuleAnswer) -> Iterator[str]:
    if not rule.told:
        yield f"  {rule.status}: {rule.text}"
        return
    states = [f"{count} {state}" for state, count in rule.states.items()]
    yield f"  {', '.join(states) if len(states) > 1 else rule.status}"
    for one in sorted(rule.told, key=lambda one: (one.label or one.scorer, one.scorer_version)):
        first, *more = outcome_text(one).splitlines()
        yield f"    {first}"
        yield from (f"      {line}" for line in more)
        yield from (f"      {line}" for line in _log(one))


def _log(one: OutcomeView) -> Iterator[str]:
    lines = (one.log or "").splitlines()
    yield from (f"| {line}" for line in lines[:LOG_LINES_MAX])
    if len(lines) > LOG_LINES_MAX:
        yield f"... {len(lines) - LOG_LINES_MAX} more lines"
