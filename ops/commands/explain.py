"""`tallyard explain` and `rejected`: why a span has its scores, or why it was not stored."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

import click

from flows.outcomes.explain import (
    Explanation,
    NothingStored,
    OutcomeView,
    RejectedPart,
    RuleAnswer,
    explanation_json,
    outcome_text,
)
from ops.commands.session import open_session

LOG_LINES_MAX = 20
"""Lines printed of one outcome's log: enough to recognise a run. `--json` gives all of it."""


@click.command(name="explain")
@click.argument("span_id")
@click.option("--project", help="Name of the span's project (default: look in all of them).")
@click.option("--json", "wants_json", is_flag=True, help="Print one JSON object.")
def explain_command(span_id: str, *, project: str | None, wants_json: bool) -> None:
    """Show what each rule did with the span SPAN_ID (its row id or span id)."""
    with open_session() as session:
        only = session.project(project).id if project else None
        found = session.tallyard.outcomes.explain(session.principal, only, span_id)
    if wants_json:
        click.echo(json.dumps(explanation_json(found), indent=2, default=str))
    elif isinstance(found, Explanation):
        click.echo("\n".join(explanation_lines(found)))
    elif isinstance(found, NothingStored):
        click.echo(f"no row {found.id!r} is stored; these writes were rejected:")
        click.echo("\n".join(_rejected(found.rejected)))
    else:
        click.echo(f"{span_id!r} names several spans; give a row id, and --project:")
        for candidate in found:
            click.echo(
                f"  row {candidate.id}  span {candidate.span_id}  {candidate.name or ''}  "
                f"(project {candidate.project_name})"
            )


@click.command()
@click.option("--project",
              help="Only rows sent to the project of this name (default: all rows).")
@click.option("--last", type=click.IntRange(1, 1000), default=20, show_default=True,
              help="How many rows, the newest first.")
@click.option("--json", "wants_json", is_flag=True, help="Print one JSON object.")
def rejected(*, project: str | None, last: int, wants_json: bool) -> None:
    """List the rows that were sent but not stored, with the reason."""
    with open_session() as session:
        logs, principal = session.tallyard.logs, session.principal
        if project is None:
            rows = logs.rejected_anywhere(principal, last)
        else:
            rows = logs.rejected(principal, session.project(project).id, last)
    if wants_json:
        click.echo(json.dumps({"rejected": rows}, indent=2))
        return
    for row in rows:
        click.echo(
            f"{row['created']}  {row['id'] or 'no id'}  "
            f"(project {row['project_id'] or 'unknown'})\n"
            f"  {row['reason']}\n  {row['excerpt']}"
        )
    if not rows:
        click.echo("no row was rejected")


def explanation_lines(explanation: Explanation) -> Iterator[str]:
    """The lines to print: each rule, below it its scorers, below each scorer its log."""
    yield (
        f"row {explanation.id}  span {explanation.span_id}  "
        f"trace {explanation.root_span_id}"
    )
    finished = "yes" if explanation.is_finished else "no"
    yield f"finished: {finished}   scores: {explanation.scores or '-'}"
    warnings = explanation.ingest_warnings
    for warning in warnings if isinstance(warnings, list) else ():
        yield f"when it was logged: {warning}"
    yield from explanation.notes
    if explanation.rejected:
        yield "writes of this row that were rejected:"
        yield from _rejected(explanation.rejected)
    if not explanation.rules:
        yield "the project has no rules: make one with `tallyard rules apply`"
    for rule in explanation.rules:
        yield ""
        yield rule.rule_name
        yield from _rule(rule)


def _rejected(parts: Iterable[RejectedPart]) -> Iterator[str]:
    for part in parts:
        yield f"  {part.created.isoformat(timespec='seconds')}  {part.reason}"
        yield f"    {part.excerpt}"


def _rule(rule: RuleAnswer) -> Iterator[str]:
    if not rule.described:
        yield f"  {rule.status}: {rule.text}"
        return
    states = [f"{count} {state}" for state, count in rule.states.items()]
    yield f"  {', '.join(states) if len(states) > 1 else rule.status}"
    for outcome in sorted(rule.described, key=_scorer_of):
        first, *more = outcome_text(outcome).splitlines()
        yield f"    {first}"
        yield from (f"      {line}" for line in more)
        yield from (f"      {line}" for line in _log(outcome))


def _scorer_of(outcome: OutcomeView) -> tuple[str, str]:
    return outcome.label or outcome.scorer, outcome.scorer_version


def _log(outcome: OutcomeView) -> Iterator[str]:
    lines = (outcome.log or "").splitlines()
    yield from (f"| {line}" for line in lines[:LOG_LINES_MAX])
    if len(lines) > LOG_LINES_MAX:
        yield f"... {len(lines) - LOG_LINES_MAX} more lines"
