"""The COPY lines of outcomes."""

from __future__ import annotations

from functools import lru_cache

from scorers.results import storable
from spans.json import Json
from spans.outcome import Errored
from spans.scoring import OutcomeState, Usage
from spans.work import Deferred, OutcomeRequest, Priority
from store.postgres.copy import FALSE, NULL, TRUE, escaped, instant_cell, json_cell
from store.postgres.numbers import Numbers
from store.scoring.locked_rows import Locked, Run

# The cells of an outcome: those that all outcomes of one request have in common, those that
# differ, and its result.
SHARED_COLUMNS = (
    "object_no", "use_no", "rules_revision", "skip_logging", "role", "queue", "priority",
    "label", "job_no",
)
OWN_COLUMNS = ("subject_seq", "subject_version", "is_lead")
RESULT_COLUMNS = (
    "state", "error_class", "error_message", "scores", "arguments", "attempts", "started_at",
    "finished_at", "run_ms", "log", "calls", "prompt_tokens", "completion_tokens",
    "cached_tokens", "cost", "model", "is_cached",
)
OUTCOME_LIST = ", ".join((*SHARED_COLUMNS, *OWN_COLUMNS, *RESULT_COLUMNS))
COPY_OUTCOMES = f"copy outcome ({OUTCOME_LIST}) from stdin"
STAGE_OUTCOMES = f"copy outcome_staged ({OUTCOME_LIST}) from stdin"

_PENDING = b"\t".join(
    [OutcomeState.PENDING.encode(), *[NULL] * 4, b"0", *[NULL] * 10, FALSE]
) + b"\n"
_SUPERSEDED = b"\t".join(
    [OutcomeState.SUPERSEDED.encode(), *[NULL] * 4, b"0", NULL, b"%b", *[NULL] * 8, FALSE]
) + b"\n"
_NO_USAGE = b"\t".join([NULL] * 6 + [FALSE]) + b"\n"


class SharedCells:
    """The cells that the outcomes of one request have in common, made once for a batch."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers
        # By the request's address, which is quicker than its hash. Keeping the request keeps
        # its address from being given to another.
        self._made: dict[
            tuple[int, int, str, Priority, str | None], tuple[bytes, OutcomeRequest]
        ] = {}

    def of(
        self, object_no: int, asked: OutcomeRequest, queue: str, priority: Priority,
        label: str | None,
    ) -> bytes:
        """The cells of SHARED_COLUMNS, each with the tab that follows it."""
        key = object_no, id(asked), queue, priority, label
        made = self._made.get(key)
        if made is not None:
            return made[0]
        job_no = asked.use.origin.generation
        cells = b"".join(
            cell + b"\t" for cell in (
                b"%d" % object_no,
                b"%d" % self._numbers.use_no(asked.use),
                NULL if asked.rules_revision is None else b"%d" % asked.rules_revision,
                TRUE if asked.skip_logging else FALSE,
                asked.use.role.encode(),
                queue.encode(),
                b"%d" % priority,
                escaped(label) if label else NULL,
                b"%d" % job_no if job_no else NULL,
            )
        )
        self._made[key] = cells, asked
        return cells


def outcome_lines(run: Run, shared: SharedCells, at: bytes) -> list[bytes]:
    """The COPY lines of the outcomes that the run gives, one for each of its requests.

    `at` is the time at which they are written. They are superseded if the row has other content
    by now.
    """
    execution, row, arguments, is_current = run
    assignment, verdict = execution.assignment, execution.verdict
    subject = assignment.subject
    state = (verdict.state if is_current else OutcomeState.SUPERSEDED).encode()
    if isinstance(verdict, Errored):
        failure = verdict.failure
        result = b"%b\t%b\t%b\t\\N\t\\N" % (
            state, escaped(failure.error_class),
            escaped(storable(failure.message)),
        )
        usage = _usage_cells(verdict.usage) if verdict.usage.calls else _NO_USAGE
    else:
        scores: list[Json] = [
            {"name": score.name, "score": score.value, "metadata": score.metadata}
            for score in verdict.result.scores
        ]
        result = b"%b\t\\N\t\\N\t%b\t%b" % (
            state, json_cell(scores), NULL if arguments is None else escaped(arguments)
        )
        usage = _usage_cells(verdict.result.usage)
    cells = b"%b\t%d\t%b\t%b\t%f\t%b\t%b" % (
        result, execution.attempts, instant_cell(verdict.started_at), at, verdict.run_ms,
        escaped(verdict.log) if verdict.log else NULL, usage,
    )
    return [
        b"%b%d\t%d\t%b\t%b" % (
            shared.of(row.object_no, asked, execution.queue, Priority.LIVE, assignment.label),
            subject.seq, subject.content_xact, TRUE if index == 0 else FALSE, cells,
        )
        for index, asked in enumerate(assignment.asked)
    ]


@lru_cache(maxsize=64)
def _usage_cells(usage: Usage) -> bytes:
    """The cells from `calls` on; cached, since scorers without a judge all have the same."""
    return b"%d\t%d\t%d\t%d\t%b\t%b\t%b\n" % (
        usage.calls, usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens,
        NULL if usage.cost is None else b"%.9g" % usage.cost,
        escaped(usage.model) if usage.model else NULL, TRUE if usage.is_cached else FALSE,
    )


def pending_lines(
    later: Deferred, locked: Locked, shared: SharedCells, at: bytes, *, leads: bool
) -> list[bytes]:
    """The COPY lines of pending outcomes. They are superseded, at the time `at`, if the row has
    other content by now.

    If `leads` is true, the first outcome of the assignment is the lead. Otherwise the caller
    must call `ensure_leads` afterwards, which chooses the lead.
    """
    assignment = later.assignment
    subject = assignment.subject
    row = locked.get(subject.seq)
    if row is None:
        return []
    is_current = row.content_xact == subject.content_xact
    leads = leads and is_current
    result = _PENDING if is_current else _SUPERSEDED.replace(b"%b", at)
    return [
        b"%b%d\t%d\t%b\t%b" % (
            shared.of(row.object_no, asked, later.queue, later.priority, assignment.label),
            subject.seq, subject.content_xact,
            TRUE if leads and index == 0 else FALSE, result,
        )
        for index, asked in enumerate(assignment.asked)
    ]
