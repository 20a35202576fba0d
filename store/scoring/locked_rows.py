"""Rows whose heads a transaction has locked, to write what scorers gave on them.

Writers of scores lock the heads in the order in which the rows came, as ingest does, and draw
the new version after that. If the content of a row changed while its scorer ran, no score is
written: a late result for old content never replaces a newer one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import NamedTuple

from spans.ids import RowSeq, Xact
from spans.json import Json
from spans.outcome import Errored, OriginKind, ScorerUse, Verdict, verdict_scores
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


class Replaced(NamedTuple):
    """A score of a row's present content that the re-score job `job_no` took the place of.

    `by` says which outcome computed it, as in `LockedRow.by`.
    """

    job_no: int
    name: str
    score: Json
    by: dict[str, int]


@dataclass(slots=True)
class LockedRow:
    """The versions and computed scores of a row while this transaction holds its lock.

    `scores` has the values by score name. `by` says for each of them which outcome computed
    it: the number of its use, the content that it scored, and its generation. `stored` has the
    scores before the changes: those that have entries. `replaced` are the scores whose place
    re-score jobs took. `store.scoring.score_spans` writes the changes.
    """

    object_no: int
    xact: Xact
    content_xact: Xact
    trigger_xact: Xact | None
    scores: dict[str, Json]
    by: dict[str, dict[str, int]]
    stored: Mapping[str, Json]
    is_changed: bool = False
    replaced: list[Replaced] = field(default_factory=list)

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
        """Replace earlier scores by those of the verdict.

        A rule or a person replaces the scores of its own that the scorer gave before, and those
        of the same names. A re-score job replaces the scorer's scores of every origin, and
        those of the same names; an error of it replaces nothing.

        What a newer generation gave on the row's present content stays: a score of that name,
        and if it is of the same scorer, every score. A score of former content stays nowhere.
        """
        generation = use.origin.generation
        if self.by:
            if use.origin.kind is OriginKind.RESCORE and isinstance(verdict, Errored):
                return
            alike = {
                name: other for name, who in self.by.items()
                for other in [numbers.use_of(who["use"])]
                if _is_same_scorer(other, use)
            }
            if any(self._stays(name, generation) for name in alike):
                return
            for name, other in alike.items():
                if use.origin.kind is OriginKind.RESCORE or other.origin.id == use.origin.id:
                    self._make_place(name, use, numbers)
        for score in verdict_scores(verdict):
            if score.value is None or self._stays(score.name, generation):
                continue
            if score.name in self.by:
                self._make_place(score.name, use, numbers)
            self.scores[score.name] = score.value
            self.by[score.name] = {
                "use": use_no, "version": self.content_xact, "generation": generation,
            }
            self.is_changed = True

    def _stays(self, name: str, generation: int) -> bool:
        """Whether the row has a score of this name which such a generation cannot replace."""
        who = self.by.get(name)
        return (
            who is not None and who["generation"] > generation
            and who["version"] == self.content_xact
        )

    def _make_place(self, name: str, use: ScorerUse, numbers: Numbers) -> None:
        """Remove a score for those of `use`, and keep it in `replaced` if a job takes it.

        What the same job gave is not kept, and neither is a score of former content, which
        would be gone once the row is matched again.
        """
        value, who = self.scores.pop(name, None), self.by.pop(name)
        self.is_changed = True
        if (
            use.origin.kind is OriginKind.RESCORE and who["version"] == self.content_xact
            and numbers.use_of(who["use"]).origin.id != use.origin.id
        ):
            self.replaced.append(Replaced(use.origin.generation, name, value, who))


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


def _is_same_scorer(one: ScorerUse, other: ScorerUse) -> bool:
    return (one.scorer.name, one.scorer.kind) == (other.scorer.name, other.scorer.kind)


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
    return lock_in_order(cursor, wanted)


def lock_in_order(cursor: Cursor, rows: Sequence[tuple[int, RowSeq]]) -> Locked:
    """Lock the heads of rows, which come sorted by the number of their object and their place.

    Deleted rows are missing from the result.
    """
    if not rows:
        return {}
    cursor.execute(LOCK, tuple(map(list, zip(*rows, strict=True))))
    return {
        seq: LockedRow(
            object_no, xact, content_xact, trigger_xact, dict(scores or {}), by or {},
            stored=scores or {},
        )
        for seq, object_no, xact, content_xact, trigger_xact, scores, by in cursor.fetchall()
    }
