"""Open descriptors until there are no more."""

from __future__ import annotations

import os

MOST = 5000
WORKED = 1024


def handler():
    held = []
    try:
        for _ in range(MOST):
            held.append(os.dup(0))
    except OSError:
        pass
    return {"score": 1.0 if len(held) > WORKED else 0.0, "metadata": {"held": len(held)}}
