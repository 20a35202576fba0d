"""Use what descriptors we were left: sockets, folders, files of the worker or the zygote."""

from __future__ import annotations

import os
import re
import socket
import stat

SECRET = re.compile(rb"CANARY_[0-9a-f]{32}")


def handler():
    worked = []
    for fd in range(3, 4096):
        try:
            mode = os.fstat(fd).st_mode
        except OSError:
            continue
        if stat.S_ISSOCK(mode):
            worked.append(f"socket {fd} {peer(fd)}")
        elif stat.S_ISDIR(mode):
            worked.append(f"folder {fd}")
        elif stat.S_ISREG(mode):
            worked.append(f"file {fd} {bool(SECRET.search(os.pread(fd, 1 << 20, 0)))}")
        elif stat.S_ISCHR(mode) and os.isatty(fd):
            worked.append(f"terminal {fd}")
    return {"score": 1.0 if worked else 0.0, "metadata": {"worked": worked}}


def peer(fd):
    try:
        with socket.socket(fileno=os.dup(fd)) as held:
            return repr(held.getpeername())
    except OSError as error:
        return repr(error)
