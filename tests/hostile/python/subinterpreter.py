"""Hide work that never ends in an interpreter of its own, in a thread of its own."""

from __future__ import annotations

import sys
import threading

if sys.version_info >= (3, 13):
    import _interpreters as interpreters
else:
    import _xxsubinterpreters as interpreters


def handler():
    other = interpreters.create()
    loop = "import time\nwhile True: time.sleep(0.01)"
    run = getattr(interpreters, "run_string", None) or interpreters.exec
    threading.Thread(target=run, args=(other, loop), daemon=False).start()
    return 0.0
