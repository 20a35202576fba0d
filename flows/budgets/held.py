"""Releases outcomes that budgets hold back, once there is room for them.

They come back in slices, since a day's new budget would otherwise be one storm: live ones
before bulk, the oldest first. What does not fit is held anew, and counts no attempt by that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

SLICE = 300
"""Outcomes that one budget releases at once. With a release each second, that is more than a
worker takes that has 256 calls in flight of a second each."""


class HeldStore(Protocol):
    """Where outcomes are held back for budgets."""

    def release_some(self, most: int) -> Collection[str]:
        """Moves back outcomes for which there is room, of each budget at most `most`.

        Gives the queues to which they went. All outcomes of budgets that were deleted go back,
        as many at a time. Safe to repeat, and to call from several processes at once.
        """
        ...


def release_held(store: HeldStore, ring: Callable[[str], None]) -> int:
    """How many queues got outcomes back, whose workers are rung for. To be called each second.
    """
    queues = store.release_some(SLICE)
    for queue in queues:
        ring(queue)
    return len(queues)
