"""Set the clock, or outlive a deadline by stopping and by timers."""

from __future__ import annotations

import os
import signal
import time


def handler(metadata):
    if metadata["variant"] == 0:
        # To the time that it is: should it work, the machine is as it was.
        try:
            time.clock_settime(time.CLOCK_REALTIME, time.time())
        except OSError:
            return 0.0
        return 1.0
    if metadata["variant"] == 1:
        signal.setitimer(signal.ITIMER_REAL, 3600)
        os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(60)
        return 1.0
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, 0)
    return 1.0
