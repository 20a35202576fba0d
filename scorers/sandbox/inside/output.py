"""What a scorer prints, kept for each record up to a limit."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class Output(io.BufferedIOBase):
    """Takes the place of stdout and stderr. Beyond `most` bytes it only counts."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept = bytearray()
        self._dropped = 0

    def install(self) -> None:
        """From now on, what Python code prints comes here."""
        for name in ("stdout", "stderr"):
            text = io.TextIOWrapper(
                self,  # type: ignore[type-var]  # more than it needs is declared for it
                encoding="utf-8", errors="backslashreplace", write_through=True
            )
            setattr(sys, name, text)

    def take(self) -> tuple[bytes, int]:
        """What was kept and how much was dropped since the last time."""
        taken = bytes(self._kept), self._dropped
        self._kept.clear()
        self._dropped = 0
        return taken

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        """Keep what there is room for."""
        view = memoryview(data).cast("B")
        room = self._most - len(self._kept)
        self._kept += view[:room]
        self._dropped += max(0, len(view) - room)
        return len(view)
