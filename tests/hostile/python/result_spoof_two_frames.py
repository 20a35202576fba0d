"""A forged answer first, then the true one: neither may count."""

from __future__ import annotations

import gc
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
    if key < len(KEYS):
        for fd in range(3, 64):
            try:
                os.write(fd, frames(KEYS[key])[framing])
            except OSError:
                continue
        return 0.0
    # With the runner's own words, wherever it keeps them.
    for each in gc.get_objects():
        if getattr(each, "__name__", "") == "write" and hasattr(each, "__globals__"):
            for body in ({"result": 1.0}, {"value": 1.0}):
                try:
                    each(body)
                except (TypeError, ValueError, AttributeError, KeyError, OSError):
                    continue
    return 0.0
