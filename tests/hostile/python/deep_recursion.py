"""Recur through C until its stack ends, with Python's own limit lifted."""

from __future__ import annotations

import sys


def descend(_):
    return sorted([0], key=descend)


def handler():
    sys.setrecursionlimit(2**31 - 1)
    return len(descend(0))
