"""Start thousands of threads."""

from __future__ import annotations

import threading

MOST = 3000
WORKED = 300


def handler():
    forever = threading.Event()
    started = 0
    try:
        for _ in range(MOST):
            threading.Thread(target=forever.wait, daemon=True).start()
            started += 1
    except (RuntimeError, MemoryError):
        pass
    return {"score": 1.0 if started > WORKED else 0.0, "metadata": {"started": started}}
