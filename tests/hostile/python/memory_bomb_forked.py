"""A dozen children that each hold a little, and together more than the tree may."""

from __future__ import annotations

import os
import time

CHILDREN = 12


def handler(metadata):
    reader, writer = os.pipe()
    each = metadata["memory_mb"] * 2 // 5 << 20
    for _ in range(CHILDREN):
        try:
            pid = os.fork()
        except OSError:
            break
        if pid == 0:
            held = bytearray(each)
            held[::4096] = b"x" * len(held[::4096])
            os.write(writer, b"x")
            time.sleep(20)
            os._exit(len(held) % 1)
    time.sleep(0.7)
    os.set_blocking(reader, False)
    try:
        holding = len(os.read(reader, CHILDREN))
    except BlockingIOError:
        holding = 0
    worked = holding * each > 2 * metadata["memory_mb"] << 20
    return {"score": 1.0 if worked else 0.0, "metadata": {"holding": holding}}
