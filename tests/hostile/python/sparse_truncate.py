"""A file of a terabyte that holds nothing, or is promised the room."""

from __future__ import annotations

import os

TERABYTE = 1 << 40


def handler():
    worked = []
    for place in (".", "/tmp", "/dev/shm", "/"):
        try:
            fd = os.open(f"{place}/sparse", os.O_CREAT | os.O_RDWR, 0o600)
        except OSError:
            continue
        for name, make in (
            ("truncate", lambda fd: os.ftruncate(fd, TERABYTE)),
            ("fallocate", lambda fd: os.posix_fallocate(fd, 0, 1 << 30)),
            ("seek", lambda fd: os.pwrite(fd, b"x", TERABYTE)),
        ):
            try:
                make(fd)
                worked.append(f"{name} {place}")
            except OSError:
                continue
        os.close(fd)
    return {"score": 1.0 if worked else 0.0, "metadata": {"worked": worked}}
