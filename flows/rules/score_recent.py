"""Runs a rule on stored rows, so that a new rule has scores at once.

The rule's target and filter count, its sampling rate does not: who asks for the last fifty rows
wants fifty. The outcomes are those of the rule, so a row whose present content it has scored is
not scored again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from rules.named_functions import NamedFunctions
from rules.outcome_requests import queue_of, requests_of
from rules.planning import PlannedRule, plan
from rules.rule_set import rule_of
from rules.wire import ONLINE, ProjectScore
from spans.clock import Clock
from spans.errors import BadInput
from spans.ids import ProjectId
from spans.row import ObjectRef, is_finished
from spans.scoring import Reason
from spans.work import Assignment, Deferred, Priority, Subject

RECENT_MAX = 1000
"""Rows that one request may score. More rows need a re-score job."""

EXAMINED_MAX = 100_000
"""Rows that one request reads at most, for a rule that selects few of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The result of `score_recent`.

    The rule selects `selected` of the `examined` rows. They have `outcomes` outcomes, one for
    each row and scorer, of which `started` are new and pending, in the `queues`.
    """

    examined: int
    selected: int
    outcomes: int
    started: int
    queues: frozenset[str]


class RecentRowStore(Protocol):
    """Where recent rows are read, and their outcomes written."""

    def functions(self, score: ProjectScore) -> tuple[NamedFunctions, int]:
        """The functions that the project's rules name now, and the revision of the rule set."""
        ...

    def recent(
        self, where: ObjectRef, columns: frozenset[str]
    ) -> Iterator[list[Subject]]:
        """The object's rows, newest first, page by page."""
        ...

    def defer(
        self, project_id: ProjectId, revision: int, deferred: list[Deferred]
    ) -> int:
        """Adds pending outcomes, and returns how many of them are new.

        Existing outcomes stay, but pending ones of another version of a scorer are superseded.
        Raises Contended if the project's rule set has another revision by now.
        """
        ...


def score_recent(
    store: RecentRowStore, score: ProjectScore, *, where: ObjectRef, last: int, clock: Clock
) -> Started:
    """Has the rule score the latest `last` rows that it selects.

    Safe to repeat: there is one outcome for each key. Raises BadInput if `score` is not a rule
    or names a function that cannot run, and Contended if the rules change meanwhile.
    """
    if score.score_type != ONLINE:
        raise BadInput(f"{score.name!r} is of type {score.score_type}, not a rule")
    rule = replace(rule_of(score), is_paused=False, sampling_rate=1.0)
    (planned,) = plan([rule], clock=clock)
    if planned.filter_error is not None:
        raise BadInput(f"the rule's filter has an error: {planned.filter_error}")
    functions, revision = store.functions(score)
    examined = 0
    chosen: list[Subject] = []
    for page in store.recent(where, planned.columns):
        examined += len(page)
        chosen += [subject for subject in page if _selects(planned, subject)]
        if len(chosen) >= last or examined >= EXAMINED_MAX:
            break
    requests = requests_of(rule, functions, None)
    deferred = [
        Deferred(
            assignment=Assignment(
                subject=subject, scorer=request.use.scorer, asked=(request,),
                label=functions.label(request.use.scorer),
            ),
            queue=queue_of(request.use.scorer, functions),
            priority=Priority.BULK,
        )
        for subject in chosen[:last]
        for request in requests.on_trace(subject.root_span_id)
    ]
    return Started(
        examined=examined,
        selected=len(chosen[:last]),
        outcomes=len(deferred),
        started=store.defer(score.project_id, revision, deferred),
        queues=frozenset(later.queue for later in deferred),
    )


def _selects(planned: PlannedRule, subject: Subject) -> bool:
    return (
        subject.has_base and is_finished(subject.view)
        and planned.decide(subject.view) is Reason.SELECTED
    )
