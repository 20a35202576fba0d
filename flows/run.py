"""Running a scorer on a subject, and timing it."""

from __future__ import annotations

import time

from flows.work import Subject
from scorers.arguments import ScoringFields
from scorers.catalog import at_version
from scorers.in_process import score_in_process
from spans.errors import TallyardError
from spans.outcome import Failure, Verdict
from spans.scoring import ScorerRef


def run_in_process(scorer: ScorerRef, subject: Subject) -> Verdict:
    """The verdict of a scorer that runs right here; what it raises is part of the verdict."""
    started_at = time.time()
    begin = time.perf_counter()
    try:
        result = score_in_process(at_version(scorer), scoring_fields(subject))
        failure = None
    except TallyardError as error:
        result = None
        failure = Failure(error_class=error.error_class(), message=str(error))
    return Verdict(
        result=result,
        failure=failure,
        started_at=started_at,
        run_ms=(time.perf_counter() - begin) * 1000,
    )


def scoring_fields(subject: Subject) -> ScoringFields:
    """What a scorer may ask of a row: its columns by name."""
    view = subject.view.get
    return ScoringFields(
        input=view("input"), output=view("output"), expected=view("expected"),
        metadata=view("metadata"), tags=view("tags"),
    )
