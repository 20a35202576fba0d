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
    digest = hashlib.sha256(sampling_prefix(chooser) + root_span_id.encode()).digest()
    return int.from_bytes(digest[:8], "big") / FULL


def is_sampled(chooser: UUID, root_span_id: str, *, rate: float) -> bool:
    """Whether the rule, or the function's shadow, takes the trace. `rate` is a share, 0..1.

    All spans of a trace get the same answer, and so does a span that is sent again. A higher
    rate takes the same traces and more.
    """
    if rate >= 1.0:
        return True   # the number can round to 1.0, which is not below the rate
    return sampling_number(chooser, root_span_id) < rate


def sampling_prefix(chooser: UUID) -> bytes:
    """What stands before the trace's id, in UTF-8, in the text whose hash is the number."""
    return f"{chooser.hex}\0".encode()


def sampling_bound(rate: float) -> bytes | None:
    """The first eight bytes of a hash, from which on a trace is not sampled: big-endian.

    Compared byte by byte, hashes below it are those for which `is_sampled` is true. None: all
    traces are sampled.
    """
    if rate >= 1.0:
        return None
    low, high = 0, FULL - 1   # which rounds to 1.0, so it is not sampled
    while low < high:
        middle = (low + high) // 2
        if middle / FULL < rate:
            low = middle + 1
        else:
            high = middle
    return low.to_bytes(8, "big")
