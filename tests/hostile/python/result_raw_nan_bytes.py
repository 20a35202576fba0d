"""NaN, and numbers beyond a double, straight to the descriptors, past the runner's encoder."""

from __future__ import annotations

import os
import struct

TEXTS = (b"NaN", b"1e999", b"-Infinity", b"1" * 400)


def frames(text):
    """The runner's own framing first, then others that a reader might take."""
    body = b'{"result":%b}' % text
    scored = b'{"result":{"score":1.0,"metadata":{"x":%b}}}' % text
    return (
        struct.pack(">III", 0, 0, len(body)) + body,
        struct.pack(">III", 0, 0, len(scored)) + scored,
        struct.pack("<I", len(body)) + body,
        body + b"\n",
    )


def handler(metadata):
    text, framing = divmod(metadata["variant"], 4)
    for fd in range(3, 64):
        try:
            os.write(fd, frames(TEXTS[text])[framing])
        except OSError:
            continue
    os._exit(0)
