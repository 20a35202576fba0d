"""Memory that is a file: pages of memfd and tmpfs are counted by no address space."""

from __future__ import annotations

import os
import tempfile

BLOCK = b"x" * (4 << 20)
FILES = 60


def handler(metadata):
    written = 0
    for number in range(FILES):
        for make in (os.memfd_create, tempfile.mkstemp):
            try:
                made = make(f"bomb-{number}")
                fd = made if isinstance(made, int) else made[0]
                for _ in range(4):
                    written += os.write(fd, BLOCK)
            except OSError:
                continue
    return {"score": 1.0 if written > metadata["memory_mb"] << 20 else 0.0}
