"""Captures what a scorer prints, for each record up to a limit."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class Output(io.BufferedIOBase):
    """Replaces stdout and stderr. It keeps `most` bytes and only counts the rest."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept = bytearray()
        self._dropped = 0

    def install(self) -> None:
        """Make this object receive all that Python code prints."""
        for name in ("stdout", "stderr"):
            text = io.TextIOWrapper(
                self,  # type: ignore[type-var]  # its declaration asks for more than it uses
                encoding="utf-8", errors="backslashreplace", write_through=True
            )
            setattr(sys, name, text)

    def take(self) -> tuple[bytes, int]:
        """The output since the last call, and how many bytes of it were dropped."""
        taken = bytes(self._kept), self._dropped
        self._kept.clear()
        self._dropped = 0
        return taken

    def note(self, line: str) -> None:
        """Add a line of our own, in brackets. It takes the place of output if it has to."""
        start = "\n" if self._kept and not self._kept.endswith(b"\n") else ""
        data = f"{start}[{line}]\n".encode("utf-8", "backslashreplace")[: self._most]
        room = self._most - len(data)
        self._dropped += max(0, len(self._kept) - room)
        del self._kept[room:]
        self._kept += data

    def writable(self) -> bool:
        """Whether it can be written to: always."""
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        """Keep as much of the data as there is room for, and count the rest as dropped."""
        view = memoryview(data).cast("B")
        room = self._most - len(self._kept)
        self._kept += view[:room]
        self._dropped += max(0, len(view) - room)
        return len(view)
