"""Become root, get capabilities back, make devices, leave no_new_privs."""

from __future__ import annotations

import ctypes
import os
import stat

PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS, PR_CAPBSET_READ, PR_SET_DUMPABLE = 38, 39, 23, 4
PR_SET_SECCOMP, PR_CAP_AMBIENT, PR_SET_KEEPCAPS = 22, 47, 8
CAPGET, CAPSET = 125, 126   # x86-64
VERSION_3 = 0x20080522
ALL = 0xFFFFFFFF
DEVICES = (("mem", 1, 1), ("kmem", 1, 2), ("disk", 8, 0), ("disk2", 254, 0))


class Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


def handler():
    libc = ctypes.CDLL(None, use_errno=True)
    worked = ["root"] if 0 in (*os.getresuid(), *os.getresgid()) else []
    for name, call in (
        ("setuid", lambda: os.setuid(0)), ("setgid", lambda: os.setgid(0)),
        ("setresuid", lambda: os.setresuid(0, 0, 0)), ("setgroups", lambda: os.setgroups([0])),
        ("setresgid", lambda: os.setresgid(0, 0, 0)),
        ("/dev/mem", lambda: os.open("/dev/mem", 0)),
        ("/dev/kmsg", lambda: os.open("/dev/kmsg", 0)),
    ):
        try:
            call()
            worked.append(name)
        except OSError:
            continue
    for name, major, minor in DEVICES:
        try:
            os.mknod(name, stat.S_IFBLK | 0o600, os.makedev(major, minor))
            worked.append(f"mknod {name}")
        except OSError:
            continue
    everything = (ctypes.c_uint32 * 6)(ALL, ALL, ALL, ALL, ALL, ALL)
    if libc.syscall(CAPSET, ctypes.byref(Header(VERSION_3, 0)), everything) == 0:
        worked.append("capset")
    held = (ctypes.c_uint32 * 6)()
    if libc.syscall(CAPGET, ctypes.byref(Header(VERSION_3, 0)), held) == 0 and any(held):
        worked.append(f"capabilities {list(held)}")
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0:
        worked.append("new privileges")
    if libc.prctl(PR_CAP_AMBIENT, 2, 0, 0, 0) == 0:
        worked.append("ambient")
    return {"score": 1.0 if worked else 0.0, "metadata": {"worked": worked}}
