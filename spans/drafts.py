"""Computes what a group of writes makes of its rows, before anything is stored.

Pure: the store locks the rows, passes them in, and stores the result.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from spans.ids import RowSeq, Xact
from spans.merge import apply, has_same_content, is_same
from spans.row import Row, RowKey, RowWrite, is_complete, is_made_by_scorer


@dataclass(slots=True)
class StoredRow:
    """A locked row, and which versions last changed its content and put it up for matching.

    `created_by` names who wrote it first.
    """

    row: Row
    seq: RowSeq
    content_xact: Xact
    trigger_xact: Xact | None
    was_scored: bool
    created_by: str | None = None


@dataclass(slots=True)
class Draft:
    """One row as the transaction will store it."""

    stored: StoredRow | None
    row: Row
    xact: Xact
    content_xact: Xact
    trigger_xact: Xact | None
    created_by: str | None
    was_deleted: bool = False       # by any write of this transaction

    @property
    def has_stale_scores(self) -> bool:
        """Whether the row may keep scores of its old content, since it is not matched again."""
        return (
            self.stored is not None
            and self.stored.was_scored
            and self.content_xact != self.stored.content_xact
            and self.trigger_xact == self.stored.trigger_xact
        )


@dataclass(slots=True)
class Drafts:
    """The rows of one transaction: as stored, and as its writes change them."""

    stored: dict[RowKey, StoredRow]
    changed: dict[RowKey, Draft] = field(default_factory=dict)

    def current(self, key: RowKey) -> Row | None:
        """The row as the writes so far leave it."""
        if (draft := self.changed.get(key)) is not None:
            return draft.row
        stored = self.stored.get(key)
        return stored.row if stored else None

    def apply(self, write: RowWrite, xact: Xact, *, sent_by: str | None = None) -> None:
        """Applies `write`, which belongs to the request with version `xact`, to its row.

        `sent_by` names who wrote the row, if it is new.

        A write that changes nothing keeps the row's version. A row is queued for matching when
        its span has its base and has ended, and again whenever its content changes after that.
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
                created_by=stored.created_by if stored else sent_by,
            )
        was_complete = before is not None and is_complete(before)
        # Feedback does not match the row again. If it counted as a change of content, pending
        # outcomes would be superseded and nothing would replace them.
        content_changed = not write.is_feedback and (
            before is None or not has_same_content(before, after)
        )
        draft.row, draft.xact = after, xact
        draft.was_deleted |= after.is_deleted
        if content_changed:
            draft.content_xact = xact
        if (
            (content_changed or not was_complete or write.reselect)
            and is_complete(after)
            and not (write.skip_scoring or write.is_feedback or is_made_by_scorer(after.fields))
        ):
            draft.trigger_xact = xact
