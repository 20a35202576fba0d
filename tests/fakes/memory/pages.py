"""Pages of a list in memory, with the meaning of `store.postgres.paging`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Protocol, TypeVar
from uuid import UUID

from flows.access.projects import ListPage
from spans.ids import parse_uuid


class Listed(Protocol):
    """What pages hold."""

    @property
    def id(self) -> Any: ...

    @property
    def created(self) -> datetime: ...


Item = TypeVar("Item", bound=Listed)


def page_of(
    items: Iterable[Item], page: ListPage, *, marks: Iterable[Listed],
    name_of: Callable[[Item], str],
) -> list[Item]:
    """The items of one page, newest first. `marks` are all items that a page may start at."""
    found = sorted(items, key=_place, reverse=True)
    if page.ids:
        wanted = {parse_uuid(text) for text in page.ids}
        found = [item for item in found if item.id in wanted]
    if page.name is not None:
        found = [item for item in found if name_of(item) == page.name]
    places = {mark.id: _place(mark) for mark in marks}
    takes_last = False
    for mark, is_after in ((page.starting_after, True), (page.ending_before, False)):
        if mark is not None:
            place = places.get(parse_uuid(mark))
            found = [
                item for item in found
                if place is not None and (_place(item) < place) is is_after
                and _place(item) != place
            ]
            takes_last = not is_after
    return found[-page.limit :] if takes_last and page.limit else found[: page.limit]


def _place(item: Listed) -> tuple[datetime, UUID]:
    return item.created, item.id
