"""The children's log files: bounded, and watched for lines an operator should see."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

SIZE_BYTES_MAX = 10 * 2**20
SHOWN_LINES_MAX = 5
# Our own format (see `wiring.logs`) and PostgreSQL's; the servers' advice on kernels is not it.
TELLING = re.compile(r"^[\d-]+ [\d:,]+ (WARNING|ERROR|CRITICAL) | (FATAL|PANIC): ")
READ_BYTES_MAX = 2**18


class LogFile:
    """A file that a child appends to; the previous 10 MB stay beside it as `.1`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.touch(mode=0o600)
        self._seen_bytes = self.path.stat().st_size
        self.bound()

    def bound(self) -> None:
        """Start anew above 10 MB. The child's next line goes to the start: it appends."""
        if self.path.stat().st_size <= SIZE_BYTES_MAX:
            return
        shutil.copyfile(self.path, self.path.with_name(f"{self.path.name}.1"))
        with self.path.open("r+b") as file:
            file.truncate(0)
        self._seen_bytes = 0

    def telling_lines(self) -> list[str]:
        """Warnings and errors written since the last call, at most five of them."""
        size = self.path.stat().st_size
        if size <= self._seen_bytes:
            return []
        with self.path.open("rb") as file:
            file.seek(max(self._seen_bytes, size - READ_BYTES_MAX))
            added = file.read(READ_BYTES_MAX).decode(errors="replace")
        self._seen_bytes = size
        found = [line for line in added.splitlines() if TELLING.search(line)]
        if len(found) > SHOWN_LINES_MAX:
            found = [*found[:SHOWN_LINES_MAX], f"... and {len(found) - SHOWN_LINES_MAX} more"]
        return found

    def last_line(self) -> str:
        """The last line that says something, for a message about a child's end."""
        lines = self.path.read_text(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else "it wrote nothing"
