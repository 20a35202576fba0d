"""Runs functions for a caller that waits: invokes them, tests and compares them on rows.

A worker runs the function, not this process. Results go to the caller and are not stored.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from functools import partial

from flows.access.principal import KeyRole, Principal
from flows.access.projects import Projects
from flows.access.use_case import use_case
from flows.functions.comparison import Difference, compare
from flows.functions.lookup import (
    FunctionChoice,
    FunctionLookup,
    FunctionReference,
    FunctionStore,
)
from flows.invocations.client import InvocationClient
from flows.logs.fetch import QueryReader
from flows.logs.row_selection import RowSelection, select_rows
from scorers.functions.function import Function
from scorers.judge.prompt import FIELDS
from spans.errors import BadInput, NotFound
from spans.event import EventLimits, check_values
from spans.ids import ProjectId, Xact
from spans.json import Json, JsonObject
from spans.outcome import Verdict, verdict_scores
from spans.repair.values import BodyText
from spans.row import RowKey
from spans.scoring import Score


@dataclass(frozen=True, slots=True, kw_only=True)
class TestRun:
    """The verdicts of a function on some rows: one for each row, in the order of `rows`."""

    rows: list[RowKey]
    verdicts: list[Verdict]


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionComparison:
    """How two versions of a function differ on the same rows."""

    before: Xact
    after: Xact
    difference: Difference


class FunctionInvocations:
    """Runs functions while the caller waits. Thread-safe."""

    def __init__(
        self, store: FunctionStore, *, lookup: FunctionLookup, client: InvocationClient,
        reader: QueryReader, projects: Projects, limits: EventLimits,
    ) -> None:
        self._store = store
        self._lookup = lookup
        self._client = client
        self._reader = reader
        self._projects = projects
        self._limits = limits

    @use_case(KeyRole.INGEST)
    async def invoke(
        self, principal: Principal, which: FunctionChoice, record: JsonObject
    ) -> Verdict:
        """The verdict of a function on one record, which holds its arguments by name.

        Raises BadInput for a record that exceeds the limits of a span, and the errors of
        `FunctionLookup.version` and `InvocationClient.run`.
        """
        check_values(record, self._limits, BodyText(b""))
        function = await self._lookup.version(principal, which)
        (verdict,) = await self._client.run(principal.org_id, function, records=[record])
        return verdict

    @use_case()
    async def test(
        self, principal: Principal, project_id: ProjectId, which: FunctionChoice,
        selection: RowSelection,
    ) -> TestRun:
        """The verdicts of a function on stored rows of a project.

        Raises NotFound for an unknown project or row id, BadInput for a filter with an error,
        and the errors of `invoke`.
        """
        where = await asyncio.to_thread(self._projects.logs_of, principal, project_id)
        function = await self._lookup.version(principal, which)
        rows = await asyncio.to_thread(
            select_rows, self._reader, principal.org_id, where, selection
        )
        verdicts = await self._client.run(principal.org_id, function, rows=rows)
        return TestRun(rows=rows, verdicts=verdicts)

    @use_case()
    async def diff(
        self, principal: Principal, which: FunctionReference, selection: RowSelection, *,
        before: Xact | None, project_id: ProjectId | None = None,
    ) -> VersionComparison:
        """Compares two versions of a function on the same stored rows.

        The new version is the one that `which` names, or the one in force. The old version is
        `before`; if that is None, the version just before the new one. The rows are those of
        `project_id`; if that is None, of the function's own project. Raises as `test`.
        """
        after = await asyncio.to_thread(self._lookup.find, principal, which)
        if before is None:
            before = await asyncio.to_thread(self._version_before, after)
        older = await asyncio.to_thread(
            self._lookup.find, principal, replace(which, version=before)
        )
        where = await asyncio.to_thread(
            self._projects.logs_of, principal, project_id or after.project_id
        )
        rows = await asyncio.to_thread(
            select_rows, self._reader, principal.org_id, where, selection
        )
        run = partial(self._client.run, principal.org_id, rows=rows)
        old, new = await run(older.as_version()), await run(after.as_version())
        return VersionComparison(
            before=older.version, after=after.version, difference=compare(rows, old, new)
        )

    def _version_before(self, function: Function) -> Xact:
        for candidate in self._store.versions(function):   # newest first
            if candidate.version < function.version:
                return candidate.version
        raise NotFound(
            f"{function.body.slug!r} has no version before {function.version}: name another "
            "with --from"
        )


def read_record(body: JsonObject) -> JsonObject:
    """The scorer's arguments by name, from the body of an invoke request.

    They are the fields of its `input`, and its own expected, metadata and tags where `input`
    does not have them. Raises BadInput.
    """
    given = body.get("input")
    if not isinstance(given, dict):
        raise BadInput(
            f"must be an object with the scorer's arguments: {', '.join(FIELDS)}", path="input"
        )
    outer: JsonObject = {
        name: body[name] for name in ("expected", "metadata", "tags") if name in body
    }
    both: JsonObject = {**outer, **given}
    return {name: both[name] for name in both if name in FIELDS and both[name] is not None}


def result_of(verdict: Verdict) -> Json:
    """The result as JSON: one score as an object, several as a list, null if it declined.

    The verdict must not be errored.
    """
    scores = verdict_scores(verdict)
    if all(score.value is None for score in scores):
        return None
    contents: list[Json] = [score_json(score) for score in scores]
    return contents[0] if len(contents) == 1 else contents


def score_json(score: Score) -> JsonObject:
    """A score in the form in which scorers return it."""
    content: JsonObject = {"name": score.name, "score": score.value}
    return {**content, "metadata": score.metadata} if score.metadata else content
