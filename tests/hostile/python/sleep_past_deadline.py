"""Sleep for a minute, deaf to every signal."""

from __future__ import annotations

import signal
import time


def handler():
    everything = set(range(1, signal.NSIG)) - {signal.SIGKILL, signal.SIGSTOP}
    signal.pthread_sigmask(signal.SIG_BLOCK, everything)
    for number in everything:
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            continue
    time.sleep(60)
    return 1.0
