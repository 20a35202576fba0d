"""`tallyard deliveries`: what was sent to webhooks, and sending it again."""

from __future__ import annotations

import json

import click

from automations.delivery import Attempt, Delivery, DeliveryDetails, DeliveryState
from automations.payload import time_text
from automations.signature import message_id
from flows.access.projects import ListPage
from flows.automations.deliveries import (
    RedeliveryRange,
    delivery_json,
    details_json,
    read_delivery_id,
)
from ops.commands.session import open_session
from spans.clock import system_clock
from spans.duration import read_duration
from spans.errors import BadInput, NotFound
from spans.ids import DeliveryId

PROJECT_HELP = "Project name (not needed if there is only one)."
STATES = [each.value for each in DeliveryState if each is not DeliveryState.FAILED]


@click.group()
def deliveries() -> None:
    """See what was sent to webhooks, and send it again."""


@deliveries.command("list")
@click.option("--automation", help="Only deliveries of this automation (its name or id).")
@click.option("--project", help=PROJECT_HELP)
@click.option("--last", type=click.IntRange(1, 1000), default=20, show_default=True,
              help="How many, the newest first.")
@click.option("--json", "wants_json", is_flag=True, help="Print a JSON object for each.")
def list_deliveries(
    *, automation: str | None, project: str | None, last: int, wants_json: bool
) -> None:
    """List deliveries, newest first."""
    with open_session() as session:
        tallyard, principal = session.tallyard, session.principal
        project_id = session.project(project).id
        automation_id = None
        if automation is not None:
            automation_id = tallyard.automations.named(principal, project_id, automation).id
        found = tallyard.deliveries.list(
            principal, ListPage(limit=last), automation_id=automation_id,
            project_id=project_id,
        )
    for each in found:
        click.echo(json.dumps(delivery_json(each)) if wants_json else delivery_line(each))
    if not found and not wants_json:
        click.echo("nothing was sent yet")


@deliveries.command()
@click.argument("delivery")
@click.option("--json", "wants_json", is_flag=True, help="Print one JSON object.")
def show(delivery: str, *, wants_json: bool) -> None:
    """Show DELIVERY (its id or `webhook-id`) with its body and every attempt."""
    with open_session() as session:
        found = session.tallyard.deliveries.get(session.principal, _delivery_id(delivery))
    if wants_json:
        click.echo(json.dumps(details_json(found), indent=2))
        return
    click.echo(details_text(found))


@deliveries.command()
@click.argument("delivery", required=False)
@click.option("--automation", help="All notifications of this automation (its name or id).")
@click.option("--since", help="Of these, the ones formed within this time: 90s, 30m, 1h, 2d.")
@click.option("--state", type=click.Choice(STATES), help="Of these, the ones in this state.")
@click.option("--project", help=PROJECT_HELP)
def redeliver(
    delivery: str | None, *, automation: str | None, since: str | None, state: str | None,
    project: str | None,
) -> None:
    """Send DELIVERY again, or with --automation and --since those of a time."""
    if (delivery is None) == (automation is None):
        raise BadInput("name a delivery, or an automation with --automation and --since")
    with open_session() as session:
        tallyard, principal = session.tallyard, session.principal
        if delivery is not None:
            found = tallyard.deliveries.redeliver(principal, _delivery_id(delivery))
            click.echo(delivery_line(found.delivery))
            return
        if since is None:
            raise BadInput("say with --since how far to go back, such as --since 2d")
        now = system_clock()
        owner = tallyard.automations.named(
            principal, session.project(project).id, automation or ""
        )
        done = tallyard.deliveries.redeliver_range(
            principal, owner.id,
            RedeliveryRange(
                since=now - read_duration(since), until=now,
                states=frozenset([DeliveryState(state)] if state else DeliveryState),
            ),
        )
    again = "1 delivery is" if done.sent == 1 else f"{done.sent} deliveries are"
    click.echo(f"{again} sent again")
    for refused, reason in done.refused.items():
        click.echo(f"not {message_id(refused)}: {reason}")


def delivery_line(delivery: Delivery) -> str:
    """A delivery in one line."""
    what = "test" if delivery.is_test else "notification"
    attempts = "1 attempt" if delivery.attempts == 1 else f"{delivery.attempts} attempts"
    line = (
        f"{message_id(delivery.id)}  {time_text(delivery.created)}  {what:<12} "
        f"{delivery.state.value:<9}  {delivery.automation_name or '(not saved)'}: {attempts}"
    )
    if delivery.state is DeliveryState.PENDING:
        line += f", the next from {time_text(delivery.next_attempt_at)} on"
    if delivery.last_error is not None:
        line += f": {delivery.last_error}"
    if delivery.carried_by is not None:
        line += f"; its matches are in {message_id(delivery.carried_by)}"
    return line


def details_text(details: DeliveryDetails) -> str:
    """A delivery with its attempts and its body, in lines."""
    return "\n".join([
        delivery_line(details.delivery),
        *(f"  {_attempt_line(each)}" for each in details.attempts),
        details.body.decode(),
    ])


def _attempt_line(attempt: Attempt) -> str:
    began = f"{attempt.attempt_no}. {time_text(attempt.started_at)}"
    if attempt.run_ms is None:
        return f"{began}  no end is known: it is under way, or its worker died"
    how = f"{attempt.run_ms:.0f} ms"
    if attempt.address_family is not None:
        how += f", {attempt.address_family}"
    told = f"{attempt.error_class}: {attempt.error_message}"
    result = f"answered {attempt.status}" if attempt.error_class is None else told
    line = f"{began}  {result} ({how})"
    # The text is the receiver's: on a terminal it must be text and nothing else.
    return f"{line}  {attempt.response!a}" if attempt.response else line


def _delivery_id(text: str) -> DeliveryId:
    if (found := read_delivery_id(text)) is None:
        raise NotFound(f"{text!r} is no id of a delivery: see `tallyard deliveries list`")
    return found
