"""Repeats work that failed because the store was away, or because of another transaction."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from spans.errors import Contended, TransientError

logger = logging.getLogger(__name__)

POLL_S = 0.5
"""The pause before a store that is away is tried again."""

CONTENDED_S = 0.05
"""The pause after a transaction lost to another one, which commits within milliseconds."""

T = TypeVar("T")


def patiently(work: Callable[[], T], *, patience_s: float, stopping: threading.Event) -> T:
    """The result of `work`, which is called again after each TransientError.

    The work must be safe to repeat. After `patience_s` seconds, or once `stopping` is set, the
    next TransientError is raised.
    """
    until = time.monotonic() + patience_s
    has_told = False
    while True:
        try:
            return work()
        except TransientError as error:
            if time.monotonic() > until or stopping.is_set():
                raise
            if not (has_told or isinstance(error, Contended)):
                logger.warning("%s; trying again for %g s", error, patience_s)
                has_told = True
            stopping.wait(CONTENDED_S if isinstance(error, Contended) else POLL_S)
