"""Open the pipe of the results again, to read what others answer."""

from __future__ import annotations

import os
import socket


def handler():
    read = []
    for fd in (1, 2, 3, 4, 5):
        for place in (f"/proc/self/fd/{fd}", f"/dev/fd/{fd}", f"/proc/thread-self/fd/{fd}"):
            try:
                os.close(os.open(place, os.O_RDONLY | os.O_NONBLOCK))
                read.append(place)
            except OSError:
                continue
        try:
            os.set_blocking(fd, False)
            os.read(fd, 1)
            read.append(fd)
        except OSError:
            continue
    try:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        socket.send_fds(ours, [b"x"], [3])
        got = socket.recv_fds(theirs, 1, 1)[1][0]
        os.set_blocking(got, False)
        os.read(got, 1)
        read.append("passed")
    except OSError:
        pass
    return {"score": 1.0 if read else 0.0, "metadata": {"read": read}}
