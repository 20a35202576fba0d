"""Run another program, in each of the ways there are."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAMS = (
    ["/bin/sh", "-c", ":"], ["/bin/true"], ["/usr/bin/env"], ["/usr/bin/perl", "-e", "1"],
    ["/usr/bin/gcc", "--version"], [sys.executable, "-c", ""], ["/usr/bin/node", "-e", ""],
    ["/usr/bin/bwrap", "--version"], ["/lib64/ld-linux-x86-64.so.2", "--version"],
)


def status(pid):
    return os.waitpid(pid, 0)[1]


def handler():
    ran = []
    for argv in PROGRAMS:
        try:
            if subprocess.run(argv, capture_output=True, timeout=5).returncode == 0:
                ran.append(f"run {argv[0]}")
        except (OSError, subprocess.SubprocessError):
            pass
        try:
            if status(os.posix_spawn(argv[0], argv, {})) == 0:
                ran.append(f"spawn {argv[0]}")
        except OSError:
            pass
    if os.system(":") == 0:
        ran.append("system")
    try:
        with open(sys.executable, "rb") as program:
            copy = os.memfd_create("program")
            os.write(copy, program.read())
        pid = os.fork()
        if pid == 0:
            try:
                os.execve(copy, [sys.executable, "-c", ""], {})
            finally:
                os._exit(1)
        if status(pid) == 0:
            ran.append("memfd")
    except OSError:
        pass
    return {"score": 1.0 if ran else 0.0, "metadata": {"ran": ran}}
