"""Half an answer, and then nothing."""

from __future__ import annotations

import os
import struct
import time


def handler():
    for fd in range(3, 64):
        try:
            os.write(fd, struct.pack(">III", 0, 0, 1000) + b'{"res')
        except OSError:
            continue
    time.sleep(60)
