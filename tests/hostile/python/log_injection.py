"""Lines, escapes and markup in all that is kept of us: output, exceptions, metadata."""

from __future__ import annotations

import os
import sys

FORGED = (
    '\r\n{"level":"error","message":"forged"}\n\x1b[2J\x1b]0;title\x07\x1b[31mred\x9b2J'
    "<script>alert(1)</script>\u202e\x00\x08\x7f"
)


def handler(metadata):
    print(FORGED)
    print(FORGED, file=sys.stderr)
    os.write(1, FORGED.encode() + b"\xff\xfe\x1b[0m")
    sys.stdout.flush()
    if metadata["variant"] == 0:
        raise ValueError(FORGED)
    if metadata["variant"] == 1:
        raise type(f"Name{FORGED}".replace("\x00", ""), (Exception,), {})("text")
    return {"score": 0.0, "metadata": {"markup": "<script>\x1b[2J"}}
