"""Running a rule on rows that are there: a new rule shows something at once.

The rule's target and filter decide, its sampling rate does not: who asks for the last fifty
wants fifty. The outcomes are the rule's own, so a row that it has scored already, in its
present content, is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from rules.named_functions import NamedFunctions
from rules.outcome_requests import outcome_requests, queue_of
from rules.planning import PlannedRule, plan
from rules.rule_set import rule_of
from rules.wire import ONLINE, ProjectScore
from spans.clock import Clock
from spans.errors import BadInput
from spans.ids import ProjectId
from spans.row import ObjectRef, is_finished
from spans.scoring import Reason
from spans.work import Assignment, Deferred, Subject

RECENT_MAX = 1000
"""Rows of one request: more is a re-score job."""

EXAMINED_MAX = 100_000
"""Rows looked at for a rule that selects few."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """`selected` rows were found among `examined`: as many `outcomes` as the rule has scorers
    for each, of which `started` are new and pending."""

    examined: int
    selected: int
    outcomes: int
    started: int
    queues: frozenset[str]


class RecentRowStore(Protocol):
    """What this needs of stored data."""

    def functions(self, score: ProjectScore) -> tuple[NamedFunctions, int]:
        """Those that the project's rules name now, and the revision that says so."""
        ...

    def recent(
        self, where: ObjectRef, columns: frozenset[str]
    ) -> Iterator[list[Subject]]:
        """The object's rows, newest first, page by page."""
        ...

    def postpone(
        self, project_id: ProjectId, revision: int, postponed: list[Deferred]
    ) -> int:
        """Add pending outcomes; those that are there already stay, but those that wait for
        another version of a scorer are superseded. Returns how many are new.

        Raises Contended if the project's rules have another revision by now.
        """
        ...


def score_recent(
    store: RecentRowStore, score: ProjectScore, *, where: ObjectRef, last: int, clock: Clock
) -> Started:
    """Have the rule score the latest `last` rows that it selects.

    Safe to repeat: outcomes are unique by their key. Raises BadInput if `score` is no rule,
    or names a function that cannot be run, and Contended if rules change meanwhile.
    """
    if score.score_type != ONLINE:
        raise BadInput(f"{score.name!r} is of type {score.score_type}, not a rule")
    rule = replace(rule_of(score), is_paused=False, sampling_rate=1.0)
    (planned,) = plan([rule], clock=clock)
    if planned.filter_error is not None:
        raise BadInput(f"the rule's filter is not understood: {planned.filter_error}")
    functions, revision = store.functions(score)
    examined = 0
    chosen: list[Subject] = []
    for page in store.recent(where, planned.columns):
        examined += len(page)
        chosen += [subject for subject in page if _selects(planned, subject)]
        if len(chosen) >= last or examined >= EXAMINED_MAX:
            break
    postponed = [
        Deferred(
            assignment=Assignment(
                subject=subject, scorer=asked.key.scorer, asked=(asked,),
                label=functions.label(asked.key.scorer),
            ),
            queue=queue_of(asked.key.scorer, functions),
        )
        for subject in chosen[:last]
        for asked in outcome_requests(planned, subject, functions, None)
    ]
    return Started(
        examined=examined,
        selected=len(chosen[:last]),
        outcomes=len(postponed),
        started=store.postpone(score.project_id, revision, postponed),
        queues=frozenset(later.queue for later in postponed),
    )


def _selects(planned: PlannedRule, subject: Subject) -> bool:
    return (
        is_finished(subject.view)
        and planned.decide(subject.view) is Reason.SELECTED
    )
