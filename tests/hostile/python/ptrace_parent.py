"""Trace, read and write other processes, or take their descriptors."""

from __future__ import annotations

import ctypes
import os

PTRACE_ATTACH, PTRACE_SEIZE = 16, 0x4206
PTRACE, PROCESS_VM_READV, PROCESS_VM_WRITEV, PIDFD_OPEN, PIDFD_GETFD = 101, 310, 311, 434, 438
PROCESS_MADVISE, KCMP, MOVE_PAGES = 440, 312, 279


class Slice(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def handler(metadata):
    libc = ctypes.CDLL(None, use_errno=True)
    room = ctypes.create_string_buffer(8)
    ours = Slice(ctypes.addressof(room), len(room))
    worked = []
    for pid in {os.getppid(), 1, *metadata["pids"]} - {os.getpid(), 0}:
        # The zygote is our own image: its memory is mapped where ours is.
        theirs = Slice(id(handler), 8)
        pair = (ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0)
        tried = {
            "attach": libc.syscall(PTRACE, PTRACE_ATTACH, pid, None, None),
            "seize": libc.syscall(PTRACE, PTRACE_SEIZE, pid, None, None),
            "read": libc.syscall(PROCESS_VM_READV, pid, *pair),
            "write": libc.syscall(PROCESS_VM_WRITEV, pid, *pair),
            "compare": libc.syscall(KCMP, os.getpid(), pid, 0, 0, 0),
        }
        handle = libc.syscall(PIDFD_OPEN, pid, 0)
        if handle >= 0:
            for fd in range(8):
                tried[f"take {fd}"] = libc.syscall(PIDFD_GETFD, handle, fd, 0)
        try:
            with open(f"/proc/{pid}/mem", "rb") as memory:
                tried["mem"] = memory.fileno()
        except OSError:
            pass
        worked += [f"{name} {pid}" for name, got in tried.items() if got >= 0]
    return {"score": 1.0 if worked else 0.0, "metadata": {"worked": worked}}
