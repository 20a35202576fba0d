"""Take descriptors that are others': open them again by /proc, or read what is passed.

Its own pipe is no prize, opened once more or not: each run has one of its own.
"""

from __future__ import annotations

import os
import socket


def handler(metadata):
    read = []
    for pid in {os.getppid(), 1, *metadata["pids"]} - {0, os.getpid()}:
        for fd in range(10):
            for flags in (os.O_RDONLY, os.O_WRONLY):
                try:
                    os.close(os.open(f"/proc/{pid}/fd/{fd}", flags | os.O_NONBLOCK))
                    read.append(f"{pid} {fd}")
                except OSError:
                    continue
    try:
        ours, theirs = socket.socketpair()
        socket.send_fds(ours, [b"x"], [3])
        got = socket.recv_fds(theirs, 1, 1)[1][0]
        os.set_blocking(got, False)
        os.read(got, 1)
        read.append("passed")
    except OSError:
        pass
    return {"score": 1.0 if read else 0.0, "metadata": {"read": read[:9]}}
