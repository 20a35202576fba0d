"""Rows whose heads a transaction has locked, to write what scorers gave on them.

Writers of scores lock the heads in the order in which the rows came, as ingest does, and draw
the new version after that. If the content of a row changed while its scorer ran, no score is
written: a late result for old content never replaces a newer one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple

from spans.ids import RowSeq, Xact
from spans.json import Json
from spans.outcome import ScorerUse, Verdict, verdict_scores
from spans.work import Execution, Subject
from store.postgres.database import Cursor
from store.postgres.numbers import Numbers

LOCK = """
    select head.* from unnest(%s::integer[], %s::bigint[]) as asked(object_no, seq)
     cross join lateral (
       select seq, object_no, xact, content_xact, trigger_xact, computed_scores, computed_by
         from span_head
        where span_head.object_no = asked.object_no and span_head.seq = asked.seq
          and deleted_at is null
          for no key update) head
"""

OutcomeNo = tuple[RowSeq, Xact, int]
"""An outcome's key in the table: (subject_seq, subject_version, use_no)."""


@dataclass(slots=True)
class LockedRow:
    """The versions and computed scores of a row while this transaction holds its lock.

    `scores` has the values by score name. `by` says for each of them which outcome computed
    it: the number of its use, the content that it scored, and its generation. `stored` has the
    scores before the changes: those that have entries. `store.scoring.score_spans` writes the
    changes.
    """

    object_no: int
    xact: Xact
    content_xact: Xact
    trigger_xact: Xact | None
    scores: dict[str, Json]
    by: dict[str, dict[str, int]]
    stored: Mapping[str, Json]
    is_changed: bool = False

    @property
    def loses_scores(self) -> bool:
        """Whether a stored score is to be replaced or removed."""
        return bool(self.stored) and any(
            self.scores.get(name) != value for name, value in self.stored.items()
        )

    @property
    def new_scores(self) -> dict[str, Json]:
        """The scores by names that are not stored."""
        if not self.stored:
            return self.scores
        return {
            name: value for name, value in self.scores.items() if name not in self.stored
        }

    def clear(self, use_nos: Collection[int]) -> None:
        """Remove the scores that outcomes of these uses computed."""
        for name in [name for name, who in self.by.items() if who["use"] in use_nos]:
            self.scores.pop(name, None)
            del self.by[name]
            self.is_changed = True

    def show(
        self, use: ScorerUse, use_no: int, verdict: Verdict, numbers: Numbers
    ) -> None:
        """Replace the earlier scores of the origin and scorer by those of the verdict.

        A score of the same name that another origin computed is replaced too, unless that
        origin's generation is newer.
        """
        if self.by:
            self.clear([
                who["use"] for who in self.by.values() if _is_same_slot(numbers, who, use)
            ])
        generation = use.origin.generation
        for score in verdict_scores(verdict):
            present = self.by.get(score.name)
            if score.value is None or (present and present["generation"] > generation):
                continue
            self.scores[score.name] = score.value
            self.by[score.name] = {
                "use": use_no, "version": self.content_xact, "generation": generation,
            }
            self.is_changed = True


Locked = dict[RowSeq, LockedRow]


class Run(NamedTuple):
    """An execution on a row that is locked.

    `arguments` are the names of those that the scorer took from it (see `argument_names`).
    `is_current`: the row still has the content that was scored.
    """

    execution: Execution
    row: LockedRow
    arguments: str | None
    is_current: bool

    def reduced_to(self, outcomes: Collection[OutcomeNo], numbers: Numbers) -> Run:
        """The run with only those of its requests whose outcomes are among `outcomes`."""
        assignment = self.execution.assignment
        subject = assignment.subject
        asked = tuple(
            one for one in assignment.asked
            if (subject.seq, subject.content_xact, numbers.use_no(one.use)) in outcomes
        )
        reduced = replace(self.execution, assignment=replace(assignment, asked=asked))
        return self._replace(execution=reduced)


def _is_same_slot(numbers: Numbers, who: dict[str, int], use: ScorerUse) -> bool:
    other = numbers.use_of(who["use"])
    return (other.origin.id, other.scorer.name) == (use.origin.id, use.scorer.name)


def lock_rows(cursor: Cursor, numbers: Numbers, subjects: Iterable[Subject]) -> Locked:
    """Lock the heads of the rows in the order of their objects and places.

    Deleted rows are missing from the result.
    """
    wanted = sorted({
        (object_no, subject.seq)
        for where, group in groupby(subjects, key=lambda subject: subject.key.object)
        for object_no in [numbers.object_no(where)]
        for subject in group
    })
    if not wanted:
        return {}
    cursor.execute(LOCK, tuple(map(list, zip(*wanted, strict=True))))
    return {
        seq: LockedRow(
            object_no, xact, content_xact, trigger_xact, dict(scores or {}), by or {},
            stored=scores or {},
        )
        for seq, object_no, xact, content_xact, trigger_xact, scores, by in cursor.fetchall()
    }
