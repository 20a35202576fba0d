"""The arguments that a handler may take, and those for a handler that does not declare any."""

from __future__ import annotations

import re

ALL = ("input", "output", "expected", "metadata", "tags", "id", "trace")

_TRACE = re.compile(r"\btrace\b")


def unless_declared(source: str) -> list[str] | None:
    """The arguments for a handler that accepts any; None means all of them.

    Reading a span's whole trace is expensive, so `trace` is left out if the handler's source
    never contains that word.
    """
    return None if _TRACE.search(source) else [name for name in ALL if name != "trace"]
