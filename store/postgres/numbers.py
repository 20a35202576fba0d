"""The numbers that stand for objects, and for uses of scorers, in the rows that name them.

A row, an outcome and their indexes name an object by one integer in place of two UUIDs and a
text, and the use of a scorer by one in place of six columns. A number never changes its
meaning, so a process keeps those that it has met.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any
from uuid import UUID

import psycopg

from spans.ids import ObjectId, ProjectId
from spans.outcome import OriginKind, ScorerUse, origin_of
from spans.row import ObjectRef, ObjectType
from spans.scoring import Role, ScorerRef

OBJECT = """
    select object_no from object
     where project_id = %s and object_type = %s and object_id = %s
"""
ADD_OBJECT = """
    insert into object (project_id, object_type, object_id) values (%s, %s, %s)
    on conflict do nothing
"""
USE = """
    select use_no from scorer_use
     where origin_kind = %s and origin_id = %s and role = %s
       and scorer_kind = %s and scorer = %s and scorer_version = %s
"""
ADD_USE = """
    insert into scorer_use
           (origin_kind, origin_id, role, scorer_kind, scorer, scorer_version, generation)
    values (%s, %s, %s, %s, %s, %s, %s) on conflict do nothing
"""

Cursors = Callable[[], AbstractContextManager[psycopg.Cursor[tuple[Any, ...]]]]
"""Opens a cursor in a transaction of its own, committed at the end."""


class Numbers:
    """Looks numbers up, and gives one to what has none yet.

    A new number is committed at once, by a transaction of its own: it holds also if what was to
    be written with it is rolled back. Thread-safe: two threads that look up the same number
    find the same.
    """

    def __init__(self, cursors: Cursors) -> None:
        self._cursors = cursors
        self._objects: dict[ObjectRef, int] = {}
        self._refs: dict[int, ObjectRef] = {}
        self._uses: dict[ScorerUse, int] = {}
        self._used: dict[int, ScorerUse] = {}

    def object_no(self, where: ObjectRef) -> int:
        """The object's number, which it gets if it has none."""
        number = self.find_object(where)
        if number is None:
            number = self._add(ADD_OBJECT, OBJECT, tuple(where))
            self._keep_object(where, number)
        return number

    def find_object(self, where: ObjectRef) -> int | None:
        """The object's number; None if nothing was ever written to it."""
        number = self._objects.get(where)
        if number is None:
            number = self._find(OBJECT, tuple(where))
            if number is not None:
                self._keep_object(where, number)
        return number

    def object_of(self, object_no: int) -> ObjectRef:
        """The object that has the number. Raises KeyError if there is none."""
        where = self._refs.get(object_no)
        if where is None:
            with self._cursors() as cursor:
                cursor.execute(
                    """select project_id, object_type, object_id from object
                        where object_no = %s""",
                    (object_no,),
                )
                row = cursor.fetchone()
            if row is None:
                raise KeyError(object_no)
            where = ObjectRef(ProjectId(row[0]), ObjectType(row[1]), ObjectId(row[2]))
            self._keep_object(where, object_no)
        return where

    def use_no(self, use: ScorerUse) -> int:
        """The number of the use, which it gets if it has none."""
        number = self._uses.get(use)
        if number is None:
            key = (
                use.origin.kind.value, use.origin.id, use.role.value, use.scorer.kind,
                use.scorer.name, use.scorer.version,
            )
            number = self._find(USE, key)
            if number is None:
                number = self._add(ADD_USE, USE, key, use.origin.generation)
            self._keep_use(use, number)
        return number

    def use_of(self, use_no: int) -> ScorerUse:
        """The use that has the number. Raises KeyError if there is none."""
        if use_no not in self._used:
            self.load_uses([use_no])
        return self._used[use_no]

    def load_uses(self, use_nos: Iterable[int]) -> None:
        """Read those of the uses that this process has not met, all at once."""
        unknown = [number for number in set(use_nos) if number not in self._used]
        if not unknown:
            return
        with self._cursors() as cursor:
            cursor.execute(
                """select use_no, origin_kind, origin_id, generation, role, scorer_kind,
                          scorer, scorer_version
                     from scorer_use where use_no = any(%s)""",
                (unknown,),
            )
            rows = cursor.fetchall()
        for number, kind, origin_id, generation, role, scorer_kind, name, version in rows:
            self._keep_use(
                ScorerUse(
                    origin=origin_of(OriginKind(kind), origin_id, generation), role=Role(role),
                    scorer=ScorerRef(kind=scorer_kind, name=name, version=version),
                ),
                number,
            )

    def _keep_object(self, where: ObjectRef, number: int) -> None:
        self._objects[where] = number
        self._refs[number] = where

    def _keep_use(self, use: ScorerUse, number: int) -> None:
        self._uses[use] = number
        self._used[number] = use

    def _find(self, statement: str, key: tuple[str | UUID, ...]) -> int | None:
        with self._cursors() as cursor:
            cursor.execute(statement.encode(), key)
            row = cursor.fetchone()
        return None if row is None else int(row[0])

    def _add(
        self, statement: str, lookup: str, key: tuple[str | UUID, ...], *more: int
    ) -> int:
        with self._cursors() as cursor:
            cursor.execute(statement.encode(), (*key, *more))
        number = self._find(lookup, key)
        assert number is not None  # noqa: S101 it is there now, whoever added it
        return number
