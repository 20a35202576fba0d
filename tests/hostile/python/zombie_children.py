"""Children that end unreaped, and children that are stopped."""

from __future__ import annotations

import os
import signal
import time

MOST = 400
WORKED = 100


def handler():
    made = 0
    try:
        for number in range(MOST):
            pid = os.fork()
            if pid == 0:
                if number % 2:
                    os._exit(0)
                time.sleep(20)
                os._exit(0)
            made += 1
            if not number % 2:
                os.kill(pid, signal.SIGSTOP)
    except OSError:
        pass
    return {"score": 1.0 if made > WORKED else 0.0, "metadata": {"made": made}}
