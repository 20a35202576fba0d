"""How the API answers: JSON, and the status and sentence of each error."""

from __future__ import annotations

import logging
from typing import Any

import orjson
from starlette.responses import JSONResponse, Response

from api.body import TooSlow, UnknownEncoding
from flows.access.keys import Unauthorized
from flows.automations.deliveries import TooManyTests
from flows.logs.limits import TooLarge
from spans.errors import (
    BadInput,
    Forbidden,
    InvalidSource,
    NotAnswered,
    NotFound,
    StoreUnavailable,
    TallyardError,
    TransientError,
    UserError,
)
from spans.json import Json

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 1
"""The Retry-After of an answer with status 503, if the error does not give another."""


class Json200(Response):
    """An answer in JSON, with status 200 if no other is given."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:  # noqa: ANN401 Starlette's own signature
        """The JSON text. Instants are in ISO 8601 with Z, UUIDs are strings."""
        return orjson.dumps(content, option=orjson.OPT_UTC_Z, default=str)


def error_response(error: TallyardError) -> Response:
    """The answer to an error: its status and class, and a message with the next step."""
    status = status_of(error)
    headers: dict[str, str] = {}
    if status in {429, 503}:
        wait = error.retry_after_s if isinstance(error, TransientError) else None
        headers["retry-after"] = str(round(wait or RETRY_AFTER_S))
        logger.warning("answered %d: %s", status, error)
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    # The message of StoreUnavailable may name hosts, so clients do not get it.
    is_ours = isinstance(error, StoreUnavailable)
    message = "the store cannot be reached; send this again" if is_ours else str(error)
    # It may quote half a surrogate pair, which cannot be sent.
    message = message.encode(errors="replace").decode()
    content: dict[str, Json] = {"class": error.error_class(), "message": message}
    if isinstance(error, InvalidSource):
        content.update(line=error.line, column=error.column)
    return JSONResponse({"error": content}, status_code=status, headers=headers)


def status_of(error: TallyardError) -> int:
    """The HTTP status of an error. The first class in the list that fits decides."""
    for kind, status in (
        (TooLarge, 413), (TooSlow, 408), (UnknownEncoding, 415), (Unauthorized, 401),
        (Forbidden, 403), (NotFound, 404), (BadInput, 400), (InvalidSource, 422),
        (UserError, 400), (TooManyTests, 429), (NotAnswered, 504), (TransientError, 503),
    ):
        if isinstance(error, kind):
            return status
    return 500
