"""Functions that are run while their caller waits: invoked, tried on rows, compared.

Nothing is run here: a worker does it, and nothing of what it says is saved.
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
    FunctionLookup,
    FunctionStore,
    KeptFunction,
    NamedOrGiven,
)
from flows.invocations.client import Calls
from flows.logs.fetch import QueryReader
from flows.logs.row_selection import RowSelection, select_rows
from scorers.functions.function import Function
from scorers.judge.prompt import FIELDS
from spans.errors import BadInput, NotFound
from spans.event import BodyText, EventLimits, check_values
from spans.ids import ProjectId, Xact
from spans.json import Json, JsonObject
from spans.outcome import Verdict, verdict_scores
from spans.row import RowKey
from spans.scoring import Score


@dataclass(frozen=True, slots=True, kw_only=True)
class TestRun:
    """What a function says of some rows: one verdict for each, in their order."""

    rows: list[RowKey]
    verdicts: list[Verdict]


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionComparison:
    """How two versions of a function differ on the same rows."""

    before: Xact
    after: Xact
    difference: Difference


class FunctionInvocations:
    """Runs functions for callers that wait. Thread-safe."""

    def __init__(
        self, store: FunctionStore, *, lookup: FunctionLookup, calls: Calls,
        reader: QueryReader, projects: Projects, limits: EventLimits,
    ) -> None:
        self._store = store
        self._lookup = lookup
        self._calls = calls
        self._reader = reader
        self._projects = projects
        self._limits = limits

    @use_case(KeyRole.INGEST)
    async def invoke(
        self, principal: Principal, which: NamedOrGiven, record: JsonObject
    ) -> Verdict:
        """What the function says of the record, its arguments by name.

        Raises BadInput for a record beyond the limits of a span, and what
        `FunctionLookup.version` and `Calls.run` do.
        """
        check_values(record, self._limits, BodyText(b""))
        function = await self._lookup.version(principal, which)
        (verdict,) = await self._calls.run(principal.org_id, function, records=[record])
        return verdict

    @use_case()
    async def test(
        self, principal: Principal, project_id: ProjectId, which: NamedOrGiven,
        selection: RowSelection,
    ) -> TestRun:
        """What the function says of stored rows of a project.

        Raises NotFound for a project or an id of a row that there is not, BadInput for a
        filter that is not understood, and what `invoke` does.
        """
        where = await asyncio.to_thread(self._projects.logs_of, principal, project_id)
        function = await self._lookup.version(principal, which)
        rows = await asyncio.to_thread(
            select_rows, self._reader, principal.org_id, where, selection
        )
        verdicts = await self._calls.run(principal.org_id, function, rows=rows)
        return TestRun(rows=rows, verdicts=verdicts)

    @use_case()
    async def diff(
        self, principal: Principal, which: KeptFunction, selection: RowSelection, *,
        before: Xact | None, project_id: ProjectId | None = None,
    ) -> VersionComparison:
        """How the function, at the version that `which` names or at the one in force, differs
        from its version `before` (None: the one that it followed) on the same stored rows.

        The rows are those of the function's own project, or of another. Raises as `test`.
        """
        after = await asyncio.to_thread(self._lookup.kept, principal, which)
        if before is None:
            before = await asyncio.to_thread(self._version_before, after)
        older = await asyncio.to_thread(
            self._lookup.kept, principal, replace(which, version=before)
        )
        where = await asyncio.to_thread(
            self._projects.logs_of, principal, project_id or after.project_id
        )
        rows = await asyncio.to_thread(
            select_rows, self._reader, principal.org_id, where, selection
        )
        run = partial(self._calls.run, principal.org_id, rows=rows)
        old, new = await run(older.as_version()), await run(after.as_version())
        return VersionComparison(
            before=older.version, after=after.version, difference=compare(rows, old, new)
        )

    def _version_before(self, function: Function) -> Xact:
        for each in self._store.versions(function):
            if each.version < function.version:
                return each.version
        raise NotFound(
            f"{function.body.slug!r} has no version before {function.version}: name another "
            "with --from"
        )


def read_record(asked: JsonObject) -> JsonObject:
    """The arguments by name: those in `input`, and beside it what the request itself says of
    expected, metadata and tags. Raises BadInput."""
    given = asked.get("input")
    if not isinstance(given, dict):
        raise BadInput(f"a scorer's arguments: an object of {', '.join(FIELDS)}", path="input")
    beside: JsonObject = {
        name: asked[name] for name in ("expected", "metadata", "tags") if name in asked
    }
    both: JsonObject = {**beside, **given}
    return {name: both[name] for name in both if name in FIELDS and both[name] is not None}


def result_of(verdict: Verdict) -> Json:
    """What the function gave: one score as an object, several as a list, null if it declined.

    Not for a verdict that is a failure.
    """
    scores = verdict_scores(verdict)
    if all(score.value is None for score in scores):
        return None
    shown: list[Json] = [score_json(score) for score in scores]
    return shown[0] if len(shown) == 1 else shown


def score_json(score: Score) -> JsonObject:
    """A score, as scorers themselves write one."""
    shown: JsonObject = {"name": score.name, "score": score.value}
    return {**shown, "metadata": score.metadata} if score.metadata else shown
