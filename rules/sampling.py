"""Sampling: which traces a rule takes, as a function and not a die."""

from __future__ import annotations

import hashlib

from spans.ids import RuleId

FULL = 2**64


def sampling_number(rule: RuleId, root_span_id: str) -> float:
    """Where a trace stands for a rule, 0..1; it is sampled if this lies below the rate.

    The first 64 bits of SHA-256 over the rule's id (32 hex digits), NUL and the trace's id.
    """
    digest = hashlib.sha256(f"{rule.hex}\0{root_span_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / FULL


def is_sampled(rule: RuleId, root_span_id: str, *, rate: float) -> bool:
    """Whether `rule` scores the trace. `rate` is a share, 0..1.

    A redelivered span and every span of its trace get the same answer, and raising the rate
    only ever adds traces.
    """
    if rate >= 1.0:
        return True   # a number so near to 1 that it rounds to it is below 1 all the same
    return sampling_number(rule, root_span_id) < rate
