"""One huge allocation: a mapping, or an object of 100 GB."""

from __future__ import annotations

import mmap

HUGE = 10**11


def handler(metadata):
    if metadata["variant"] == 0:
        held = bytearray(HUGE)
        held[::4096] = b"x" * len(held[::4096])
        return 1.0
    size = 4 * metadata["memory_mb"] << 20
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as mapped:
        for at in range(0, size, mmap.PAGESIZE):
            mapped[at] = 1
    return 1.0
