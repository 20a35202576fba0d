"""A forged answer first, then the true one: neither may count."""

from __future__ import annotations

import json
import os
import struct

KEYS = ("result", "ok", "value")


def frames(key):
    """The runner's own framing first, then others that a reader might take."""
    body = json.dumps({key: 1.0}).encode()
    return (
        struct.pack(">III", 0, 0, len(body)) + body,
        struct.pack("<I", len(body)) + body,
        struct.pack(">I", len(body)) + body,
        body + b"\n",
    )


def handler(metadata):
    key, framing = divmod(metadata["variant"], 4)
    for fd in range(3, 64):
        try:
            os.write(fd, frames(KEYS[key])[framing])
        except OSError:
            continue
    return 0.0
