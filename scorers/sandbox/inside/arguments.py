"""What a handler may take, and what of it is sent to one that does not say."""

from __future__ import annotations

import re

ALL = ("input", "output", "expected", "metadata", "tags", "id", "trace")

_TRACE = re.compile(r"\btrace\b")


def unless_declared(source: str) -> list[str] | None:
    """Names for a handler that takes whatever there is; None: all of them.

    Reading a span's whole trace is dear; whose source never says the word does not miss it.
    """
    return None if _TRACE.search(source) else [name for name in ALL if name != "trace"]
