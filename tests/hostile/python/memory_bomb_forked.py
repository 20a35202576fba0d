"""A dozen children that each hold a little, and together more than the tree may."""

from __future__ import annotations

import os
import select
import time

CHILDREN = 12
PATIENCE_S = 1.0


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
    # Until enough of them hold theirs, or nothing more comes of it.
    holding = b""
    while len(holding) * each <= 2 * metadata["memory_mb"] << 20:
        if not select.select([reader], [], [], PATIENCE_S)[0]:
            return {"score": 0.0, "metadata": {"holding": len(holding)}}
        holding += os.read(reader, 1)
    return {"score": 1.0, "metadata": {"holding": len(holding)}}
