"""A flood on both standard streams."""

from __future__ import annotations

import os
import sys

LINE = "flood " * 20000


def handler():
    for _ in range(500):
        print(LINE)
        print(LINE, file=sys.stderr)
        os.write(1, LINE.encode())
        os.write(2, LINE.encode())
    return 0.0
