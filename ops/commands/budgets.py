"""`tallyard budgets`: sets and lists budgets of judge calls, and shows the prices in force."""

from __future__ import annotations

import json
from collections.abc import Iterator
from uuid import UUID

import click

from flows.budgets.budgets import BudgetStatus, status_json
from ops.commands.session import Session, open_session
from ops.commands.text import counted
from rules.budgets.model import Period, money_text
from rules.budgets.reserve import next_day
from rules.budgets.wire import read_budget
from scorers.judge.prices import PriceTable
from spans.errors import NotFound
from spans.json import JsonObject
from wiring.settings import read_settings

_PROJECT = click.option("--project", help="Project name (not needed if there is only one).")
_PERIOD = click.option(
    "--period", type=click.Choice([each.value for each in Period]), default=Period.DAY.value,
    show_default=True,
    help="day: from midnight UTC to midnight UTC; total: for ever.",
)
_RULE = click.option("--rule", help="Name or id of the rule whose calls it caps.")
_JOB = click.option("--job", type=click.UUID, help="Re-score job whose calls it caps.")


@click.group()
def budgets() -> None:
    """Cap what calls of judges may cost, for a project, a rule or a re-score job."""


@budgets.command(name="list")
@_PROJECT
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def list_budgets(*, project: str | None, as_json: bool) -> None:
    """List the project's budgets, what is spent of them, and what they hold back."""
    with open_session() as session:
        found = session.tallyard.budgets.list(
            session.principal, session.project(project).id
        )
    for status in found:
        if as_json:
            click.echo(json.dumps(status_json(status)))
        else:
            click.echo("\n".join(status_lines(status)))
    if not found and not as_json:
        click.echo("no budgets: set one with `tallyard budgets set`")


@budgets.command(name="set")
@_PROJECT
@_RULE
@_JOB
@_PERIOD
@click.option("--money", type=float, help="The most that calls may cost, as prices count.")
@click.option("--calls", type=int, help="The most calls.")
def set_budget(
    *, project: str | None, rule: str | None, job: UUID | None, period: str,
    money: float | None, calls: int | None,
) -> None:
    """Set the caps of a budget: of a rule, of a job, or else of the project."""
    given = {"period": period, "money": money, "calls": calls}
    with open_session() as session:
        owner = session.project(project)
        body = read_budget({**given, **_subject(session, project, rule, job)})
        budget, existed = session.tallyard.budgets.put(session.principal, owner.id, body)
    click.echo(f"{'changed' if existed else 'set'} {budget.named}")


@budgets.command()
@click.argument("budget_id", type=click.UUID)
def delete(budget_id: UUID) -> None:
    """Delete a budget. What it holds back runs soon."""
    with open_session() as session:
        deleted = session.tallyard.budgets.delete(session.principal, budget_id)
    click.echo(f"deleted {deleted.named}")


@budgets.command()
def prices() -> None:
    """Print the prices in force, of a million tokens, and the day on which they held."""
    settings = read_settings()
    click.echo("\n".join(price_lines(settings.judge_endpoints.table)))
    for endpoint in settings.judge_endpoints:
        if (own := endpoint.prices) is not None:
            click.echo(
                f"  endpoint {endpoint.name} ({', '.join(endpoint.models)}): prompt "
                f"{own.prompt:g}, cached {own.cached:g}, answer {own.completion:g}"
            )


def status_lines(status: BudgetStatus) -> Iterator[str]:
    """A budget in lines: its caps, what is spent, and what it holds back, and why."""
    budget, use = status.budget, status.use
    yield f"{budget.id}  {budget.period} budget of {budget.subject_kind} {budget.subject_id}"
    if (cap := budget.caps.money) is not None:
        yield (
            f"  money: {money_text(use.money_spent)} spent and "
            f"{money_text(use.money_reserved)} reserved of {money_text(cap)}"
        )
    of_calls = "" if budget.caps.calls is None else f" of {budget.caps.calls}"
    yield f"  calls: {use.calls_spent} made and {use.calls_reserved} reserved{of_calls}"
    if use.day is not None:
        yield f"  begins anew at {next_day(use.day).isoformat(timespec='minutes')}"
    if status.held:
        yield f"  holds back {counted(status.held, 'outcome')}: {status.reason}"


def price_lines(table: PriceTable) -> Iterator[str]:
    """The table of prices in lines, by the names of the models."""
    held_on = "" if table.as_of is None else f" as of {table.as_of.isoformat()}"
    yield f"prices of a million tokens{held_on}"
    width = max(map(len, table.prices), default=0)
    for model, prices in sorted(table.prices.items()):
        yield (
            f"  {model:<{width}}  prompt {prices.prompt:g}, cached {prices.cached:g}, "
            f"answer {prices.completion:g}"
        )


def _subject(
    session: Session, project: str | None, rule: str | None, job: UUID | None
) -> JsonObject:
    """The fields that say whose calls the budget caps."""
    if rule is not None and job is not None:
        raise NotFound("name a rule or a job, not both")
    if rule is not None:
        found = session.tallyard.rules.named(
            session.principal, session.project(project).id, rule
        )
        return {"rule_id": str(found.id)}
    return {} if job is None else {"job_id": str(job)}
