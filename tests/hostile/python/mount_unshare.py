"""New namespaces, other people's namespaces, mounts, another root."""

from __future__ import annotations

import ctypes
import os
import signal

# x86-64
UNSHARE, SETNS, MOUNT, UMOUNT, PIVOT_ROOT, CHROOT = 272, 308, 165, 166, 155, 161
CLONE, CLONE3, OPEN_TREE, FSOPEN, FSPICK = 56, 435, 428, 430, 433
NEW = {
    "user": 0x10000000, "mount": 0x20000, "net": 0x40000000, "pid": 0x20000000,
    "ipc": 0x8000000, "uts": 0x4000000, "cgroup": 0x2000000, "time": 0x80,
}
MS_REMOUNT, MS_BIND = 32, 4096


def handler():
    libc = ctypes.CDLL(None, use_errno=True)
    worked = []

    def trying(name, *call):
        if libc.syscall(*call) >= 0:
            worked.append(name)

    clone3 = (ctypes.c_uint64 * 11)(NEW["user"], 0, 0, 0, signal.SIGCHLD)
    for name, call in (("clone", (CLONE, NEW["user"] | signal.SIGCHLD, 0, 0, 0, 0)),
                       ("clone3", (CLONE3, clone3, 88))):
        pid = libc.syscall(*call)
        if pid == 0:
            os._exit(0)
        if pid > 0:
            worked.append(name)
    for name, flag in NEW.items():
        trying(f"unshare {name}", UNSHARE, flag)
        trying(f"unshare user and {name}", UNSHARE, flag | NEW["user"])
    for name in ("user", "mnt", "net", "pid"):
        for pid in ("1", str(os.getppid())):
            try:
                fd = os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY)
            except OSError:
                continue
            trying(f"setns {pid} {name}", SETNS, fd, 0)
    trying("tmpfs", MOUNT, b"none", b"/tmp", b"tmpfs", 0, None)
    trying("proc", MOUNT, b"proc", b"/tmp", b"proc", 0, None)
    trying("bind", MOUNT, b"/", b"/tmp", None, MS_BIND, None)
    trying("remount", MOUNT, None, b"/", None, MS_REMOUNT | MS_BIND, None)
    trying("umount", UMOUNT, b"/tmp", 2)
    trying("umount proc", UMOUNT, b"/proc", 2)
    trying("pivot_root", PIVOT_ROOT, b".", b".")
    trying("open_tree", OPEN_TREE, -100, b"/", 1)
    trying("fsopen", FSOPEN, b"tmpfs", 0)
    trying("fspick", FSPICK, -100, b"/", 0)
    trying("chroot", CHROOT, b"/tmp")
    return {"score": 1.0 if worked else 0.0, "metadata": {"worked": worked}}
