"""What became of the rows of re-score jobs, in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from rules.rescore.model import RescoreJob
from rules.rescore.report import JobRecord


@dataclass(slots=True)
class MemoryJobRecords:
    """Implements flows.rescore.report.JobRecordStore.

    `kept` has the pages of each job, `least` the least passing score of each of its scorers.
    """

    kept: dict[UUID, list[list[JobRecord]]] = field(default_factory=dict)
    least: dict[UUID, list[float | None]] = field(default_factory=dict)

    def thresholds(self, job: RescoreJob) -> Sequence[float | None]:
        return self.least.get(job.id, [None] * len(job.scorers))

    def pages(self, job: RescoreJob) -> Iterator[Sequence[JobRecord]]:
        yield from self.kept.get(job.id, [])
