"""Find the worker's secrets in an environment: ours, anybody's, or what is left in memory."""

from __future__ import annotations

import ctypes
import os
import re

SECRET = re.compile(rb"CANARY_[0-9a-f]{32}")
CHUNK = 1024
MOST = 256 * 1024


def initial_stack():
    """Arguments and environment as the kernel laid them down, whatever was deleted since.

    A pipe reads them, for write(2) answers EFAULT beyond the end where a pointer would crash.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    address = ctypes.c_void_p.in_dll(libc, "program_invocation_name").value
    reader, writer = os.pipe()
    found = b""
    while len(found) < MOST:
        length = CHUNK - (address + len(found)) % CHUNK
        written = libc.write(writer, ctypes.c_void_p(address + len(found)), length)
        if written <= 0:
            break
        found += os.read(reader, written)
    os.close(reader)
    os.close(writer)
    return found


def handler(metadata):
    seen = [repr(dict(os.environ)).encode(), initial_stack()]
    for pid in ("self", 1, os.getppid(), *metadata["pids"]):
        try:
            with open(f"/proc/{pid}/environ", "rb") as environ:
                seen.append(environ.read())
        except OSError:
            continue
    for text in seen:
        if secret := SECRET.search(text):
            return {"score": 1.0, "metadata": {"secret": secret[0].decode()}}
    return 0.0
