"""What is measured of Tallyard: counters, queues, and the workers that run users' code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

BUCKETS_S = (
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0,
)
"""Upper bounds of a histogram's buckets, in seconds: from one run to an hour's wait."""

BUCKET_LABELS = (*(f"{bound:g}" for bound in BUCKETS_S), "+Inf")
"""The same as Prometheus' labels `le`. A histogram is one counter for each of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A counter's total over all processes, since the database was made."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDepth:
    """What waits in one queue; `oldest_s` is 0 where nothing does."""

    queue: str
    depth: int
    oldest_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxWorker:
    """What a worker's self-test found. `sentence` is the next step where it is not ok."""

    host: str
    tier: str | None
    is_ok: bool
    sentence: str
    probes: Mapping[str, str]
