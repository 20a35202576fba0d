"""An answer that comes a byte at a time, for ever."""

from __future__ import annotations

import os
import time


def handler():
    while True:
        for fd in range(3, 8):
            try:
                os.write(fd, b"\0")
            except OSError:
                continue
        time.sleep(0.1)
