"""The messages of ingest, and the store that writes them.

A request is written as rows and an outbox entry in one transaction. A request that a client
sends again within an hour, because it got no answer, gets the first answer and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from spans.errors import TallyardError
from spans.ids import OrgId, ProjectId, Xact
from spans.row import RowWrite


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedRow:
    """A row of a lenient request that was not stored, and why. The sender can list these."""

    project_id: ProjectId | None
    row_id: str | None
    reason: str
    excerpt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestRequest:
    """The checked rows of one HTTP request.

    A request is a resend if an earlier one had the same `body_hash` (32 bytes) and `key_id`.
    `sent_by` is the name of the key.
    """

    org_id: OrgId
    key_id: str
    sent_by: str
    body_hash: bytes
    writes: tuple[RowWrite, ...]
    rejected: tuple[RejectedRow, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestAnswer:
    """The ids of the written rows, in the request's order, and their version `xact`."""

    row_ids: tuple[str, ...]
    xact: Xact


class IngestStore(Protocol):
    """Where rows are written."""

    def write(
        self, requests: Sequence[IngestRequest]
    ) -> list[IngestAnswer | TallyardError]:
        """Writes a group of requests in one transaction, each with its own version.

        Returns each request's answer or error. After an error each request is written alone, so
        that one bad request does not fail the others.
        """
        ...
