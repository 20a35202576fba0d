"""Grow a list until memory ends; four times what we may have is success enough."""

from __future__ import annotations

BLOCK = 1 << 20


def handler(metadata):
    held = []
    for _ in range(4 * metadata["memory_mb"]):
        held.append(bytearray(b"x") * BLOCK)
    return 1.0
