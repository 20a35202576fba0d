"""Sampling: which traces a rule or a shadow takes. It is a hash, not a random draw."""

from __future__ import annotations

import hashlib
from uuid import UUID

FULL = 2**64


def sampling_number(chooser: UUID, root_span_id: str) -> float:
    """The number, 0..1, of a trace for a rule or a function. Below the rate, it is sampled.

    It is the first 64 bits of SHA-256 over the id of the rule or function (32 hex digits), NUL
    and the trace's id.
    """
    digest = hashlib.sha256(f"{chooser.hex}\0{root_span_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / FULL


def is_sampled(chooser: UUID, root_span_id: str, *, rate: float) -> bool:
    """Whether the rule, or the function's shadow, takes the trace. `rate` is a share, 0..1.

    All spans of a trace get the same answer, and so does a span that is sent again. A higher
    rate takes the same traces and more.
    """
    if rate >= 1.0:
        return True   # the number can round to 1.0, which is not below the rate
    return sampling_number(chooser, root_span_id) < rate
