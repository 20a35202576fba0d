"""Sampling: which traces a rule, or a shadow, takes, as a function and not a die."""

from __future__ import annotations

import hashlib
from uuid import UUID

FULL = 2**64


def sampling_number(chooser: UUID, root_span_id: str) -> float:
    """Where a trace stands for a rule or a function, 0..1; it is sampled if this lies below
    the rate.

    The first 64 bits of SHA-256 over their id (32 hex digits), NUL and the trace's id.
    """
    digest = hashlib.sha256(f"{chooser.hex}\0{root_span_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / FULL


def is_sampled(chooser: UUID, root_span_id: str, *, rate: float) -> bool:
    """Whether the rule scores the trace, or the function's shadow runs on it. `rate` is a
    share, 0..1.

    A redelivered span and every span of its trace get the same answer, and raising the rate
    only ever adds traces.
    """
    if rate >= 1.0:
        return True   # a number so near to 1 that it rounds to it is below 1 all the same
    return sampling_number(chooser, root_span_id) < rate
