"""Log files of child processes: limited in size, and searched for warnings."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

# Enough for days of normal logs; a file and its predecessor take 20 MiB at most.
SIZE_BYTES_MAX = 10 * 2**20
SHOWN_LINES_MAX = 5
# Warnings and errors in our own format (`wiring.logs`) and in PostgreSQL's. Valkey's advice on
# kernel settings does not match.
WARNING_LINE = re.compile(r"^[\d-]+ [\d:,]+ (WARNING|ERROR|CRITICAL) | (FATAL|PANIC): ")
READ_BYTES_MAX = 2**18


class LogFile:
    """A log file that a child appends to. The previous 10 MiB are kept beside it as `.1`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.touch(mode=0o600)
        self._seen_bytes = self.path.stat().st_size
        self.rotate()

    def rotate(self) -> None:
        """Empty the file once it exceeds 10 MiB. The child appends, so it needs no notice."""
        if self.path.stat().st_size <= SIZE_BYTES_MAX:
            return
        shutil.copyfile(self.path, self.path.with_name(f"{self.path.name}.1"))
        with self.path.open("r+b") as file:
            file.truncate(0)
        self._seen_bytes = 0

    def new_warnings(self) -> list[str]:
        """Warnings and errors written since the last call: at most five, and how many more."""
        size = self.path.stat().st_size
        if size <= self._seen_bytes:
            return []
        with self.path.open("rb") as file:
            file.seek(max(self._seen_bytes, size - READ_BYTES_MAX))
            added = file.read(READ_BYTES_MAX).decode(errors="replace")
        self._seen_bytes = size
        found = [line for line in added.splitlines() if WARNING_LINE.search(line)]
        if len(found) > SHOWN_LINES_MAX:
            found = [*found[:SHOWN_LINES_MAX], f"... and {len(found) - SHOWN_LINES_MAX} more"]
        return found

    def last_line(self) -> str:
        """The last line that is not blank, for a message about the child's end."""
        lines = self.path.read_text(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else "(nothing was logged)"
