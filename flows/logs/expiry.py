"""Deletes old traces whole, with all that was computed and said of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from spans.row import ObjectRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """How many traces, and rows of them (score spans too), were or would be deleted."""

    traces: int
    rows: int


class ExpiryStore(Protocol):
    """Where old traces are deleted."""

    def expire(self, where: ObjectRef, before: datetime, *, is_dry_run: bool) -> Expired:
        """Deletes each trace of the object whose newest row was created before `before`.

        A trace that still gets rows stays whole. Score spans are not counted among the rows
        that keep a trace, so scoring an old trace again does not keep it. With `is_dry_run`
        nothing is deleted. Safe to repeat, and to stop at any time.
        """
        ...
