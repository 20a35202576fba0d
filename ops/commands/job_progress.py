"""How the progress of a re-score job is shown in a terminal, and how it ended. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from flows.rescore.jobs import JobProgress
from flows.rescore.rescores import JobStatus
from rules.rescore.model import ENDED, JobState, PausedBy, RescoreJob

PACE_S = 10.0
"""The rate is that of the last so many seconds."""

EXIT_FAILED, EXIT_WITH_ERRORS, EXIT_CANCELLED, EXIT_PAUSED = 1, 3, 4, 5
"""What `tallyard rescore` exits with, if not 0: the job failed; it is completed with errored
outcomes; it was cancelled; it is paused. 2 is click's, for wrong options."""

BAR = 24
MINUTE_S, HOUR_S = 60, 3600


def finished(progress: JobProgress) -> int:
    """The outcomes that are not pending any more."""
    return sum(progress.states.values()) - progress.states.get("pending", 0) + (
        progress.cancelled
    )


@dataclass(slots=True)
class JobPace:
    """How fast a job's outcomes finish, by what was seen in the last PACE_S seconds."""

    seen: deque[tuple[float, int]] = field(default_factory=deque)

    def see(self, at_s: float, done: int) -> None:
        """Notes that so many outcomes were finished at a time, in seconds of any clock."""
        self.seen.append((at_s, done))
        while at_s - self.seen[0][0] > PACE_S:
            self.seen.popleft()

    @property
    def per_second(self) -> float | None:
        """Outcomes a second; None until two different times were noted."""
        if not self.seen:
            return None
        (first_s, first), (last_s, last) = self.seen[0], self.seen[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else None


def progress_line(status: JobStatus, pace: JobPace) -> str:
    """One line: the state, a bar, how many outcomes of all, the rate, errors, the time left."""
    job, progress = status.job, status.progress
    if job.rollback_at is not None:
        return _rollback_text(job)
    if job.state is JobState.PLANNED:
        return f"selecting records: {progress.records:,} so far"
    done, total = finished(progress), progress.outcomes
    share = min(done / total, 1.0) if total else 1.0
    bar = "#" * int(BAR * share)
    parts = [f"[{bar:.<{BAR}}] {done:,} of {total:,} ({share:.0%})"]
    if job.state is not JobState.RUNNING:
        parts.append(_state_text(status))
    elif (rate := pace.per_second) is not None:
        parts.append(f"{rate:,.0f}/s")
        if rate > 0:
            parts.append(f"{_duration_text((total - done) / rate)} left")
    if errors := progress.states.get("errored", 0):
        parts.append(f"{errors:,} errored")
    if progress.held:
        parts.append(f"{progress.held:,} held back")
    return "  ".join(parts)


def list_line(status: JobStatus) -> str:
    """The job in one line of a list. What was cancelled does not count as done."""
    job, progress = status.job, status.progress
    done = finished(progress) - progress.cancelled
    told = ", ".join(one.shown_as for one in job.scorers)
    if errors := progress.states.get("errored", 0):
        told += f"  {errors:,} errored"
    if progress.held:
        told += f"  {progress.held:,} held back"
    if job.rollback_at is not None:
        told += "  being rolled back" if job.rolled_back_at is None else "  rolled back"
    return (
        f"{job.id}  {job.created:%Y-%m-%d %H:%M}Z  {job.state:<10}  "
        f"{done:>9,} of {progress.outcomes:<9,}  {told}"
    )


def summary_lines(status: JobStatus) -> list[str]:
    """The job in some lines: what it is, how far it is, and what the reader may do next."""
    job, progress = status.job, status.progress
    scorers = ", ".join(one.shown_as for one in job.scorers)
    lines = [
        f"{job.id}  {_state_text(status)}",
        f"  scorers   {scorers}",
        f"  records   {progress.records:,}, outcomes {progress.outcomes:,}",
    ]
    counts = {**progress.states, "cancelled": progress.cancelled}
    told = [
        f"{count:,} {name}" + (f" ({held:,} held back)" if held else "")
        for name, count in counts.items() if count
        for held in [progress.held if name == "pending" else 0]
    ]
    if told:
        lines.append(f"  outcomes  {', '.join(told)}")
    if progress.held and job.state is JobState.RUNNING:
        lines.append("  held      `tallyard status` says by what, such as a budget")
    if progress.errors:
        errors = [f"{count:,} {name}" for name, count in progress.errors.items()]
        lines.append(f"  errors    {', '.join(errors)}")
    if job.max_per_second is not None:
        lines.append(f"  rate      at most {job.max_per_second:g} records a second")
    if job.rollback_at is not None:
        lines.append(f"  rollback  {_rollback_text(job)}")
    return lines


def exit_code(status: JobStatus) -> int:
    """What a command that waited for the job exits with; 0 also while it goes on, and once it
    is rolled back."""
    if status.job.rolled_back_at is not None:
        return 0
    match status.job.state:
        case JobState.FAILED:
            return EXIT_FAILED
        case JobState.CANCELLED:
            return EXIT_CANCELLED
        case JobState.PAUSED:
            return EXIT_PAUSED
        case JobState.COMPLETED if status.progress.states.get("errored", 0):
            return EXIT_WITH_ERRORS
        case _:
            return 0


def waits(status: JobStatus) -> bool:
    """Whether somebody who watches the job has more to see: it is not over, nor paused, nor
    being rolled back."""
    job = status.job
    is_rolling_back = job.rollback_at is not None and job.rolled_back_at is None
    return is_rolling_back or job.state not in {*ENDED, JobState.PAUSED}


def _rollback_text(job: RescoreJob) -> str:
    how = "being rolled back" if job.rolled_back_at is None else "rolled back"
    told = f"{how}: {job.restored:,} records restored"
    if job.left_alone:
        told += f", {job.left_alone:,} left alone, since others have changed them"
    return told


def _state_text(status: JobStatus) -> str:
    job = status.job
    if job.state is JobState.FAILED:
        return f"failed: {job.failure}"
    if job.state is JobState.PAUSED and job.paused_by is PausedBy.PROBE:
        return "paused after its probe"
    return job.state.value


def _duration_text(seconds: float) -> str:
    whole = round(seconds)
    if whole < MINUTE_S:
        return f"{whole} s"
    if whole < HOUR_S:
        return f"{whole // MINUTE_S} min {whole % MINUTE_S} s"
    return f"{whole // HOUR_S} h {whole % HOUR_S // MINUTE_S} min"
