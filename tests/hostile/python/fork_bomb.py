"""Fork, and let every child fork. At most 256 processes, should nothing hold us."""

from __future__ import annotations

import os
import time

GENERATIONS = 8
WORKED = 100


def handler():
    reader, writer = os.pipe()
    first = os.getpid()
    for _ in range(GENERATIONS):
        try:
            if os.fork() == 0:
                os.write(writer, b"x")
        except OSError:
            continue
    if os.getpid() != first:
        time.sleep(20)
        os._exit(0)
    time.sleep(0.4)
    os.set_blocking(reader, False)
    try:
        born = len(os.read(reader, 1 << 16))
    except BlockingIOError:
        born = 0
    return {"score": 1.0 if born > WORKED else 0.0, "metadata": {"born": born}}
