"""Taking in what clients log: a request becomes rows and an outbox entry, or nothing.

A 2xx answer means committed. A request that is sent again within an hour (an SDK that saw
no answer) gets its first answer and changes nothing.
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
    """A row of a lenient request that is not stored, and why. Listed for its sender."""

    project_id: ProjectId | None
    row_id: str | None
    reason: str
    excerpt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestRequest:
    """One HTTP request's rows, read and checked.

    `body_hash` (32 bytes) and `key_id` tell a request that is sent again.
    """

    org_id: OrgId
    key_id: str
    body_hash: bytes
    writes: tuple[RowWrite, ...]
    rejected: tuple[RejectedRow, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestAnswer:
    """`row_ids` in the order of the request's rows; `xact` is the version that it wrote."""

    row_ids: tuple[str, ...]
    xact: Xact


class IngestStore(Protocol):
    """Where rows go."""

    def write(
        self, requests: Sequence[IngestRequest]
    ) -> list[IngestAnswer | TallyardError]:
        """Store a group of requests in one transaction, each with a version of its own.

        After an error each request is tried alone, so that one cannot fail its neighbours.
        """
        ...
