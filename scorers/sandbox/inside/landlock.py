"""Restricts the files that a process may use by Landlock, without any namespace (tier B)."""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

from scorers.sandbox.inside import kernel

ABI_MIN = 4
"""The first version of Landlock that can forbid TCP (Linux 6.7)."""

_ABI_SIGNALS = 6                          # the first that can confine signals (Linux 6.12)

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1                              # flag: return the ABI version
_RULE_PATH_BENEATH = 1

# linux/landlock.h
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG = 1 << 4, 1 << 5, 1 << 7, 1 << 8
_TRUNCATE = 1 << 14
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
_READING = _READ_FILE | _READ_DIR
_WRITING = (
    _READING | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _TRUNCATE
)
_ALL_FILES = (1 << 15) - 1                # all that ABI 3 knows
_IOCTL_DEVICE = 1 << 15                   # ABI 5
_ALL_NET = 0b11                           # bind and connect, TCP
_ALL_SCOPES = 0b11                        # abstract sockets and signals


def abi() -> int:
    """The kernel's version of Landlock; 0 if it has none."""
    try:
        size, flags = ctypes.c_size_t(0), ctypes.c_uint(_VERSION)
        return kernel.syscall(_CREATE_RULESET, None, size, flags)
    except OSError:
        return 0


def confines_signals() -> bool:
    """Whether a restricted process can send signals only to processes restricted with it."""
    return abi() >= _ABI_SIGNALS


def restrict(
    *, readable: Iterable[str], writable: Iterable[str], executable: Iterable[str] = ()
) -> None:
    """Allow this process and its descendants only these paths, and no TCP, for good.

    In writable paths they may write plain files and folders, but make no sockets, devices,
    pipes or links. Loading a shared library counts as reading; `executable` is for files that
    may be run as programs. Raises OSError.
    """
    version = abi()
    files = _ALL_FILES | (_IOCTL_DEVICE if version > ABI_MIN else 0)
    attributes = struct.pack("QQ", files, _ALL_NET)
    if version >= _ABI_SIGNALS:
        attributes += struct.pack("Q", _ALL_SCOPES)
    rules = kernel.syscall(
        _CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint(0)
    )
    for paths, access in ((readable, _READING), (writable, _WRITING), (executable, _EXECUTE)):
        for path in paths:
            _allow(rules, path, access)
    kernel.forbid_new_privileges()
    kernel.syscall(_RESTRICT_SELF, ctypes.c_int(rules), ctypes.c_uint(0))
    os.close(rules)


def _allow(rules: int, path: str, access: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
        access &= _ON_FILES
    rule = struct.pack("=Qi", access, descriptor)
    kernel.syscall(
        _ADD_RULE, ctypes.c_int(rules), ctypes.c_int(_RULE_PATH_BENEATH), rule, ctypes.c_uint(0)
    )
    os.close(descriptor)
