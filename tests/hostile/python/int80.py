"""Make system calls by int 0x80, which uses the 32-bit numbers of calls."""

from __future__ import annotations

import ctypes
import mmap
import os

READ_WRITE_EXECUTE = 7
# mov eax, NUMBER; int 0x80; ret
GETPID = b"\xb8\x14\x00\x00\x00\xcd\x80\xc3"


def handler():
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=READ_WRITE_EXECUTE)
    page.write(GETPID)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    return 1.0 if ctypes.CFUNCTYPE(ctypes.c_int)(address)() == os.getpid() else 0.0
