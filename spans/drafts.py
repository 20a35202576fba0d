"""What a group of writes makes of the rows it touches, before anything is written.

Pure: the store locks the rows and hands them in, and writes what comes out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from spans.ids import Xact
from spans.merge import apply, has_same_content, is_same
from spans.row import Row, RowKey, RowWrite, is_finished, is_made_by_scorer


@dataclass(slots=True)
class StoredRow:
    """A row under lock, with what its last writes were."""

    row: Row
    content_xact: Xact
    trigger_xact: Xact | None
    was_scored: bool


@dataclass(slots=True)
class Draft:
    """What the transaction is going to write of one row."""

    stored: StoredRow | None
    row: Row
    xact: Xact
    content_xact: Xact
    trigger_xact: Xact | None
    was_deleted: bool = False       # at some point of this transaction

    @property
    def has_stale_scores(self) -> bool:
        """Whether the row may hold scores of other content, and no match will replace them."""
        return (
            self.stored is not None
            and self.stored.was_scored
            and self.content_xact != self.stored.content_xact
            and self.trigger_xact == self.stored.trigger_xact
        )


@dataclass(slots=True)
class Drafts:
    """One transaction's rows, as they were and as they are going to be."""

    stored: dict[RowKey, StoredRow]
    changed: dict[RowKey, Draft] = field(default_factory=dict)

    def current(self, key: RowKey) -> Row | None:
        """The row as this transaction left it so far."""
        if (draft := self.changed.get(key)) is not None:
            return draft.row
        stored = self.stored.get(key)
        return stored.row if stored else None

    def apply(self, write: RowWrite, xact: Xact) -> None:
        """Have `write`, of the request that got version `xact`, change its row.

        What leaves a row as it was leaves it its version. A row is put up for matching when
        it ends, and whenever its content changes after that.
        """
        before = self.current(write.key)
        after = apply(before, write)
        if before is not None and is_same(before, after) and not write.reselect:
            return   # the row keeps its version
        draft = self.changed.get(write.key)
        stored = self.stored.get(write.key)
        if draft is None:
            draft = self.changed[write.key] = Draft(
                stored=stored,
                row=after,
                xact=xact,
                content_xact=stored.content_xact if stored else xact,
                trigger_xact=stored.trigger_xact if stored else None,
            )
        was_finished = before is not None and is_finished(before.fields)
        # Feedback is not scored again; were it a new version of the content, what is being
        # scored just then would be superseded, and nothing would take its place.
        content_changed = not write.is_feedback and (
            before is None or not has_same_content(before, after)
        )
        draft.row, draft.xact = after, xact
        draft.was_deleted |= after.is_deleted
        if content_changed:
            draft.content_xact = xact
        if (
            (content_changed or not was_finished or write.reselect)
            and is_finished(after.fields)
            and not (write.skip_scoring or write.is_feedback or is_made_by_scorer(after.fields))
        ):
            draft.trigger_xact = xact
