"""A header that promises more than anybody has, of an answer and of a log."""

from __future__ import annotations

import os
import struct

MOST = 2**32 - 1
HEADERS = ((0, 0, MOST), (0, MOST, MOST), (MOST, MOST, 0))


def handler(metadata):
    os.write(3, struct.pack(">III", *HEADERS[metadata["variant"]]))
    block = b" " * (1 << 20)
    for _ in range(512):
        os.write(3, block)
    return 1.0
