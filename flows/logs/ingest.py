"""The messages of ingest, and the store that writes them.

A request is written as rows and an outbox entry in one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from flows.logs.rejections import RejectedRow
from spans.ids import OrgId
from spans.resends import IngestAnswer, Resend
from spans.row import RowWrite


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestRequest:
    """The checked rows of one HTTP request. `sent_by` is the name of its key.

    `resend` says how its later tries are recognised; None if they may be stored again.
    """

    org_id: OrgId
    sent_by: str
    writes: tuple[RowWrite, ...]
    rejected: tuple[RejectedRow, ...] = ()
    resend: Resend | None = None


class IngestStore(Protocol):
    """Where rows are written."""

    def write(
        self, requests: Sequence[IngestRequest]
    ) -> list[IngestAnswer | Exception]:
        """Writes a group of requests in one transaction, each with its own version.

        Returns each request's answer or error. After an error each request is written alone, so
        that one bad request does not fail the others.
        """
        ...
