"""Whose turn it is among the objects that wait, for one process: in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeVar

from spans.row import ObjectRef

T = TypeVar("T")


class FairTurns:
    """Gives all objects that wait alike much.

    It remembers how much each of them got while it waited. Whoever comes anew starts level with
    the one that got least.
    """

    def __init__(self) -> None:
        self._got: dict[ObjectRef, int] = {}

    def take(
        self, waiting: Iterable[T], limit: int, *,
        where: Callable[[T], ObjectRef], size: Callable[[T], int] = lambda _: 1,
    ) -> list[T]:
        """Items until they have `limit` in size, those of each object in the given order."""
        of_object: dict[ObjectRef, deque[T]] = {}
        for item in waiting:
            of_object.setdefault(where(item), deque()).append(item)
        level = min((self._got[one] for one in of_object if one in self._got), default=0)
        self._got = {one: self._got.get(one, level) for one in of_object}
        taken: list[T] = []
        while limit > 0 and of_object:
            turn = min(of_object, key=self._got.__getitem__)
            item = of_object[turn].popleft()
            if not of_object[turn]:
                del of_object[turn]
            taken.append(item)
            self._got[turn] += size(item)
            limit -= size(item)
        return taken
