"""Source that explodes in the compiler. The driver puts what is named here in its place."""

from __future__ import annotations

BOMB = __BOMB__


def handler():
    return 1.0
