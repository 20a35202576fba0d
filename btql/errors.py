"""The error for a filter or query that cannot be understood, and where in it the error is."""

from __future__ import annotations

from dataclasses import dataclass

from spans.errors import BadInput


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a text. Lines and columns count from 1."""

    line: int
    column: int


class BtqlError(BadInput):
    """A filter or query that is not understood.

    An error in a text carries `line` and `column`; one in a JSON tree carries `path`
    ("filter.children[2].left") and, for a text snippet inside of it, all three.
    """

    def __init__(
        self, message: str, *, at: Position | None = None, path: str | None = None
    ) -> None:
        where = f"line {at.line}, column {at.column}: " if at else ""
        super().__init__(f"{where}{message}", path=path)
        self.reason = message
        self.at = at

    @property
    def line(self) -> int | None:
        """Line of the text, from 1."""
        return self.at.line if self.at else None

    @property
    def column(self) -> int | None:
        """Column in that line, in characters, from 1."""
        return self.at.column if self.at else None

    def within(self, path: str) -> BtqlError:
        """The same error, with the path of its node in a JSON tree, unless it has one."""
        return self if self.path else BtqlError(self.reason, at=self.at, path=path)
