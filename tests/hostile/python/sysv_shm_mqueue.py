"""Memory of the kernel's own: shared segments, semaphores, queues, of System V and POSIX."""

from __future__ import annotations

import ctypes
import os

IPC_CREAT = 0o1000
MSGGET, SEMGET, SHMGET, MQ_OPEN = 68, 64, 29, 240   # x86-64
SIZE = 64 << 20


def handler():
    libc = ctypes.CDLL(None, use_errno=True)
    made = {
        "shmget": libc.syscall(SHMGET, 0, ctypes.c_size_t(SIZE), IPC_CREAT | 0o600),
        "semget": libc.syscall(SEMGET, 0, 1000, IPC_CREAT | 0o600),
        "msgget": libc.syscall(MSGGET, 0, IPC_CREAT | 0o600),
        "mq_open": libc.syscall(MQ_OPEN, b"bomb", os.O_CREAT | os.O_RDWR, 0o600, None),
    }
    worked = [name for name, got in made.items() if got >= 0]
    return {"score": 1.0 if worked else 0.0, "metadata": {"worked": worked}}
