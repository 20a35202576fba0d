"""Abort, and ask for a core file."""

from __future__ import annotations

import os
import resource


def handler():
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
    except (OSError, ValueError):
        pass
    os.abort()
