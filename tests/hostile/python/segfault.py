"""Read from an unmapped address."""

from __future__ import annotations

import ctypes


def handler():
    return len(ctypes.string_at(0))
