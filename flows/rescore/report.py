"""The report of a re-score job: what it gave, beside what stood there before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from rules.rescore.model import RescoreJob
from rules.rescore.report import JobRecord, JobReport, report_of


class JobRecordStore(Protocol):
    """Where the records of jobs are read from."""

    def thresholds(self, job: RescoreJob) -> Sequence[float | None]:
        """The least passing score of each of the job's scorers, where its author gave one."""
        ...

    def pages(self, job: RescoreJob) -> Iterator[Sequence[JobRecord]]:
        """A record for each row and scorer that the job asks for, in pages, as they are now."""
        ...


def report_on(store: JobRecordStore, job: RescoreJob) -> JobReport:
    """The report of the job. Of a job that still runs, it has what is there so far."""
    return report_of(job.scorers, store.thresholds(job), store.pages(job))
