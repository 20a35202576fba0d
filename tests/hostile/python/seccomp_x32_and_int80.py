"""Calls under the numbers of another ABI, which a filter of numbers alone lets through."""

from __future__ import annotations

import ctypes
import os

X32 = 0x40000000
GETPID, SOCKET, UNSHARE = 39, 41, 272


def handler(metadata):
    libc = ctypes.CDLL(None, use_errno=True)
    worked = []
    if libc.syscall(X32 | GETPID) == os.getpid():
        worked.append("getpid")
    if libc.syscall(X32 | SOCKET, 2, 1, 0) >= 0:
        worked.append("socket")
    if libc.syscall(X32 | UNSHARE, 0x10000000) == 0:
        worked.append("unshare")
    # The upper half of a number is not looked at by the kernel, and might be by a filter.
    if libc.syscall(ctypes.c_long((1 << 32) | UNSHARE), 0x10000000) == 0:
        worked.append("long unshare")
    return {"score": 1.0 if worked else 0.0, "metadata": {"worked": worked}}
