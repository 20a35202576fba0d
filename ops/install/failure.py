"""Why set-up, or a part of it, ended."""

from __future__ import annotations


class SetupFailed(Exception):
    """A piece could not be installed. The message names the next step.

    If it is not fatal, all else works without the piece.
    """

    def __init__(self, message: str = "", *, is_fatal: bool = True) -> None:
        super().__init__(message)
        self.is_fatal = is_fatal


class ProgramFailed(Exception):
    """A program failed. The message is the end of what it printed."""
