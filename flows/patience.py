"""Doing again what a store that is away, or another transaction, kept from being done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from spans.errors import Contended, TransientError

POLL_S = 0.5
"""How often a store that is away is tried again."""

CONTENDED_S = 0.05
"""The pause after two transactions met: the other one commits within milliseconds."""

T = TypeVar("T")


def patiently(work: Callable[[], T], *, patience_s: float, stopping: threading.Event) -> T:
    """The result of `work`, called again after each TransientError, for `patience_s` seconds.

    Only for work that is safe to repeat. Raises the last TransientError once the time is over
    or `stopping` is set.
    """
    until = time.monotonic() + patience_s
    while True:
        try:
            return work()
        except TransientError as error:
            if time.monotonic() > until or stopping.is_set():
                raise
            stopping.wait(CONTENDED_S if isinstance(error, Contended) else POLL_S)
