"""How one request to a user's address ended."""

from __future__ import annotations

from dataclasses import dataclass

UNREACHABLE = "unreachable"
TIMEOUT = "timeout"
TLS = "tls"
BROKEN_ANSWER = "broken_answer"
HTTP_STATUS = "http_status"

# One text for a closed port, a name without an address, and an address that the policy refuses:
# whoever may choose a URL does not learn what there is in the network around Tallyard.
NOT_CONNECTED = (
    "no connection could be made: the name has no address, nothing listens there, or Tallyard "
    "is not allowed to connect to it (its operator finds the reason in the log of the worker "
    "automations)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestEnd:
    """How one request ended: with the status of an answer, or without an answer.

    `error_class` is None for a status from 200 to 299 alone. `answer` is the beginning of the
    answer's body as text. `address_family` is "ipv4" or "ipv6" if a connection was made.
    `retry_after_s` is the wait that the peer asked for.
    """

    status: int | None = None
    error_class: str | None = None
    error_message: str | None = None
    answer: str | None = None
    address_family: str | None = None
    run_ms: float = 0.0
    retry_after_s: float | None = None

    @property
    def is_ok(self) -> bool:
        """Whether the peer took the request."""
        return self.error_class is None
