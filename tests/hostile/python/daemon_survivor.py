"""A daemon, forked twice in a session of its own, that goes on after the answer.

It writes results of its own to every descriptor, and a file on the host.
"""
from __future__ import annotations

import json
import os
import struct
import time

FORGED = json.dumps({"result": 1.0}).encode()


def haunt(path):
    end = time.monotonic() + 20
    while time.monotonic() < end:
        for fd in range(3, 20):
            try:
                os.write(fd, struct.pack(">III", 0, 0, len(FORGED)) + FORGED)
            except OSError:
                continue
        try:
            with open(path, "w") as file:
                file.write(str(os.getpid()))
        except OSError:
            pass
        time.sleep(0.05)


def handler(metadata):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            # Not at once: this attack is about what comes after the answer.
            time.sleep(0.1)
            haunt(os.path.join(metadata["drop"], "survived"))
        os._exit(0)
    return 0.0
