"""Keep the interpreter from ending: a thread, an exit hook, a finalizer, all endless."""

from __future__ import annotations

import atexit
import threading
import time


def forever(*_):
    while True:
        time.sleep(0.05)


class Clings:
    __del__ = forever


KEPT = Clings()


def handler():
    atexit.register(forever)
    threading.Thread(target=forever, daemon=False).start()
    return 0.0
