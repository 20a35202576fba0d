"""Kill or stop whoever runs us: the parent, the group, the worker, everybody."""

from __future__ import annotations

import os
import signal


def handler(metadata):
    # To signal everybody as the machine's root would end it: to be root is success already.
    if os.getuid() == 0:
        return {"score": 1.0, "metadata": {"uid": 0}}
    others = [pid for pid in (os.getppid(), *metadata["pids"]) if pid > 1]
    match metadata["variant"]:
        case 0:
            sent = [pid for pid in others if signalled(pid, signal.SIGKILL)]
        case 1:
            sent = [pid for pid in others if signalled(pid, signal.SIGSTOP)]
        case 2:
            sent = [pid for pid in others if signalled(-pid, signal.SIGKILL)]
        case 3:
            os.kill(0, signal.SIGKILL)
            sent = []
        case _:
            signalled(-1, signal.SIGKILL)
            sent = []
    return {"score": 1.0 if sent else 0.0, "metadata": {"sent": sent}}


def signalled(pid, number):
    try:
        os.kill(pid, number)
    except OSError:
        return False
    return True
