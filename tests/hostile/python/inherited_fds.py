"""Use what descriptors we were left: sockets, folders, files of the worker or the zygote."""

from __future__ import annotations

import os
import socket
import stat
import struct

CREDENTIALS = struct.Struct("iII")


def handler():
    worked = []
    for fd in range(3, 4096):
        try:
            mode = os.fstat(fd).st_mode
        except OSError:
            continue
        if stat.S_ISSOCK(mode):
            # An event loop has a pair of its own; what was made by others was left to us.
            if maker(fd) != os.getpid():
                worked.append(f"socket {fd} of {maker(fd)}")
        elif stat.S_ISDIR(mode):
            worked.append(f"folder {fd}")
        elif stat.S_ISREG(mode):
            worked.append(f"file {fd}")
        elif stat.S_ISCHR(mode) and os.isatty(fd):
            worked.append(f"terminal {fd}")
    return {"score": 1.0 if worked else 0.0, "metadata": {"worked": worked}}


def maker(fd):
    with socket.socket(fileno=os.dup(fd)) as held:
        credentials = held.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        return CREDENTIALS.unpack(credentials)[0]
