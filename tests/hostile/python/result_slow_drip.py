"""An answer that comes a byte at a time, for ever."""

from __future__ import annotations

import os
import struct
import time


def handler():
    os.write(3, struct.pack(">III", 0, 0, 200_000))
    while True:
        os.write(3, b" ")
        time.sleep(0.1)
