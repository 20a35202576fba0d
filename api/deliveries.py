"""Endpoints of deliveries: what was sent to webhooks, and sending it again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.answer import Json200
from api.automations import automation_id_of
from api.endpoint import endpoint
from api.request import Context, in_thread, json_body, list_page
from automations.delivery import DeliveryState
from flows.access.principal import Principal
from flows.automations.deliveries import (
    Deliveries,
    RedeliveryRange,
    delivery_json,
    details_json,
    read_delivery_id,
    redelivered_json,
)
from spans.errors import BadInput, NotFound
from spans.ids import DeliveryId
from spans.validation import read_model


class RangeBody(BaseModel):
    """The notifications of an automation to send again, by when they were formed."""

    model_config = ConfigDict(extra="forbid")
    since: str = Field(description="must be a time in ISO 8601, such as 2026-05-12T10:00:00Z")
    until: str | None = Field(None, description="must be a time in ISO 8601")
    state: Literal["delivered", "abandoned", "pending"] | None = Field(
        None, description="must be delivered, abandoned or pending"
    )


async def of_automation(request: Request, context: Context, principal: Principal) -> Response:
    """Lists the deliveries of an automation, newest first."""
    automation_id, page = automation_id_of(request), list_page(request, "")
    deliveries = context.tallyard.deliveries
    found = await in_thread(
        lambda: deliveries.list(principal, page, automation_id=automation_id)
    )
    return Json200({"objects": [delivery_json(each) for each in found]})


async def get(request: Request, context: Context, principal: Principal) -> Response:
    """Gets one delivery with its body and its attempts."""
    delivery_id, deliveries = _delivery_id(request), context.tallyard.deliveries
    found = await in_thread(lambda: deliveries.get(principal, delivery_id))
    return Json200(details_json(found))


async def redeliver(request: Request, context: Context, principal: Principal) -> Response:
    """Sends a notification again."""
    delivery_id, deliveries = _delivery_id(request), context.tallyard.deliveries
    found = await in_thread(lambda: deliveries.redeliver(principal, delivery_id))
    return Json200(details_json(found))


async def redeliver_range(request: Request, context: Context, principal: Principal) -> Response:
    """Sends the notifications of an automation again that were formed in a range of time."""
    automation_id, tallyard = automation_id_of(request), context.tallyard
    await in_thread(lambda: tallyard.automations.get(principal, automation_id))
    body = read_model(RangeBody, await json_body(request, context))
    wanted = RedeliveryRange(
        since=_time(body.since, "since"),
        until=_time(body.until, "until") if body.until else datetime.max.replace(tzinfo=UTC),
        states=frozenset([DeliveryState(body.state)] if body.state else DeliveryState),
    )
    done = await in_thread(
        lambda: tallyard.deliveries.redeliver_range(principal, automation_id, wanted)
    )
    return Json200(redelivered_json(done))


def _delivery_id(request: Request) -> DeliveryId:
    found = read_delivery_id(request.path_params["delivery_id"])
    if found is None:
        raise NotFound("no such delivery")
    return found


def _time(text: str, path: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadInput("must be a time in ISO 8601", path=path) from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


OF_AUTOMATION = "/v1/project_automation/{automation_id}"
ONE = "/v1/automation_delivery/{delivery_id}"
ROUTES = [
    Route(
        f"{OF_AUTOMATION}/deliveries", endpoint(of_automation, Deliveries.list), methods=["GET"]
    ),
    Route(
        f"{OF_AUTOMATION}/redeliver", endpoint(redeliver_range, Deliveries.redeliver_range),
        methods=["POST"],
    ),
    Route(ONE, endpoint(get, Deliveries.get), methods=["GET"]),
    Route(f"{ONE}/redeliver", endpoint(redeliver, Deliveries.redeliver), methods=["POST"]),
]
