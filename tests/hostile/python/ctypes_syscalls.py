"""Make risky system calls: bpf, keys, io_uring, userfaultfd, perf, modules, kernel log."""

from __future__ import annotations

import ctypes
import os
import struct

# x86-64
BPF, ADD_KEY, KEYCTL, IO_URING_SETUP, USERFAULTFD, PERF = 321, 248, 250, 425, 323, 298
KEXEC_LOAD, INIT_MODULE, FINIT_MODULE, SYSLOG, IOPL, IOPERM = 246, 175, 313, 103, 172, 173
PERSONALITY, FANOTIFY_INIT, MODIFY_LDT, MEMFD_SECRET = 135, 300, 154, 447
QUOTACTL, ACCT, SWAPON, VHANGUP, LOOKUP_DCOOKIE = 179, 163, 167, 153, 212
ADDR_NO_RANDOMIZE = 0x0040000


def handler():
    libc = ctypes.CDLL(None, use_errno=True)
    array = struct.pack("IIIII", 2, 4, 4, 1, 0).ljust(72, b"\0")
    software_clock = struct.pack("IIQ", 1, 112, 0).ljust(112, b"\0")
    room = ctypes.create_string_buffer(4096)
    calls = {
        "bpf": (BPF, 0, array, len(array)),
        "add_key": (ADD_KEY, b"user", b"canary", b"x", 1, -2),
        "keyctl": (KEYCTL, 0, -3, 1),
        "io_uring_setup": (IO_URING_SETUP, 1, ctypes.create_string_buffer(120)),
        "userfaultfd": (USERFAULTFD, os.O_CLOEXEC | os.O_NONBLOCK | 1),
        "perf_event_open": (PERF, software_clock, 0, -1, -1, 0),
        "kexec_load": (KEXEC_LOAD, 0, 0, None, 0),
        "init_module": (INIT_MODULE, b"\x7fELF", 4, b""),
        "finit_module": (FINIT_MODULE, 0, b"", 0),
        "syslog": (SYSLOG, 3, room, len(room)),
        "iopl": (IOPL, 3),
        "ioperm": (IOPERM, 0, 1, 1),
        "personality": (PERSONALITY, ADDR_NO_RANDOMIZE),
        "fanotify_init": (FANOTIFY_INIT, 0, 0),
        "modify_ldt": (MODIFY_LDT, 1, ctypes.create_string_buffer(16), 16),
        "memfd_secret": (MEMFD_SECRET, 0),
        "quotactl": (QUOTACTL, 0x800002 << 8, b"/dev/none", 0, room),
        "acct": (ACCT, None),
        "swapon": (SWAPON, b"none", 0),
        "vhangup": (VHANGUP,),
        "lookup_dcookie": (LOOKUP_DCOOKIE, 0, room, len(room)),
    }
    worked = [name for name, call in calls.items() if libc.syscall(*call) >= 0]
    return {"score": 1.0 if worked else 0.0, "metadata": {"worked": worked}}
