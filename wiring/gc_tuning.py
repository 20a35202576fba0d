"""Garbage collection, set for processes that handle rows by the thousand.

Batches of JSON are allocated and dropped whole, with few cycles among them. The default has
the collector walk the young objects every 700 allocations, and everything that was ever
imported now and then: a fifth of a match worker's time, measured.
"""

from __future__ import annotations

import gc

YOUNG_OBJECTS = 30_000


def set_up_collecting() -> None:
    """Leave what is imported alone from now on, and look at the rest seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 50, 100)
