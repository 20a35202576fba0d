"""The system calls that Python 3.11 has no function for. Each raises OSError with its name."""

from __future__ import annotations

import ctypes
import os
import struct

_libc = ctypes.CDLL(None, use_errno=True)

# linux/sched.h
CLONE_NEWNS = 0x00020000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000

# linux/mount.h
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8

# linux/prctl.h, linux/capability.h
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION_3 = 0x20080522


def prctl(option: int, *arguments: int) -> None:
    """prctl(2), with up to four numbers."""
    padded = [ctypes.c_ulong(each) for each in (*arguments, 0, 0, 0, 0)[:4]]
    _check(_libc.prctl(option, *padded), f"prctl {option}")


def unshare(flags: int) -> None:
    """Leave the namespaces of these kinds for new ones."""
    _check(_libc.unshare(flags), "unshare")


def setns(namespace: int, kind: int) -> None:
    """Enter a namespace, by an open file of it. For PIDs: children to come are in it."""
    _check(_libc.setns(namespace, kind), "setns")


def mount_tmpfs(target: str, flags: int, options: str) -> None:
    """Mount an empty file system in memory over `target`."""
    outcome = _libc.mount(
        b"tmpfs", target.encode(), b"tmpfs", ctypes.c_ulong(flags), options.encode()
    )
    _check(outcome, f"mount {target}")


def set_dumpable(*, on: bool) -> None:
    """Set whether processes of the same user may inspect this one (/proc/<pid>, ptrace)."""
    prctl(_PR_SET_DUMPABLE, int(on))


def adopt_orphans() -> None:
    """Become the parent of all descendants whose own parents end."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send this signal when the thread that started this process ends."""
    prctl(_PR_SET_PDEATHSIG, signal_number)


def drop_capabilities() -> None:
    """Give up every power of root for good."""
    forbid_new_privileges()   # so that no exec can regain powers from the bounding set
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    _check(_libc.capset(header, bytes(24)), "capset")


def forbid_new_privileges() -> None:
    """Forbid that an exec gives this process more powers: setuid bits are ignored."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


class _Program(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def install_seccomp(instructions: bytes) -> None:
    """Filter all system calls of this process and its descendants, for good."""
    forbid_new_privileges()
    buffer = ctypes.create_string_buffer(instructions, len(instructions))
    program = _Program(len(instructions) // 8, ctypes.addressof(buffer))
    outcome = _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program))
    _check(outcome, "seccomp")


def syscall(number: int, *arguments: object) -> int:
    """syscall(2), for calls that libc has no wrapper for."""
    result: int = _libc.syscall(ctypes.c_long(number), *arguments)
    _check(min(result, 0), f"system call {number}")
    return result


def _check(outcome: int, what: str) -> None:
    if outcome:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
