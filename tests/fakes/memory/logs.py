"""Rows in memory: written, fetched, queried, and followed as they change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import orjson
from fakes.memory.access import MemoryProjects

from btql.closure import compile_filter, compile_value
from btql.query import Query
from flows.logs.change_feed import ChangedRow, Changes
from flows.logs.expiry import Expired
from flows.logs.fetch import FetchRequest, Page, QueryPage, TracePlace
from flows.logs.ingest import IngestRequest
from flows.logs.rejections import RejectedRow
from flows.outcomes.explain import REJECTED_MAX, RejectedPart
from scorers.run.trace import TRACE_SPANS_MAX, TraceRef
from spans.clock import Clock
from spans.columns import API_COLUMNS, EVENT_FIELDS
from spans.drafts import Draft, Drafts, StoredRow
from spans.errors import BadInput, TallyardError, TraceTooLarge
from spans.ids import OrgId, ProjectId, RowSeq, Xact
from spans.json import JsonObject
from spans.resends import IngestAnswer, Remembered, ResendName, answers_of
from spans.row import (
    IDENTITY_FIELDS,
    ObjectRef,
    Row,
    RowKey,
    RowView,
    RowWrite,
    is_made_by_scorer,
    is_root,
)
from spans.work import Subject
from store.postgres.row_json import api_row, instant_text

TRACED = tuple(name for name, column in API_COLUMNS.items() if column.is_in_trace)
FIRST_XACT = 10**18
PAGE = 500
"""Rows of one page of `recent`."""


@dataclass(frozen=True, kw_only=True)
class KeptRow:
    """A row, with what the table has beside it. `computed` are the scores of scorers."""

    stored: StoredRow
    org_id: OrgId
    xact: Xact
    first_xact: Xact
    computed: JsonObject | None = None

    @property
    def key(self) -> RowKey:
        return self.stored.row.key

    @property
    def seq(self) -> RowSeq:
        return self.stored.seq

    @property
    def is_deleted(self) -> bool:
        return self.stored.row.is_deleted

    @property
    def root_span_id(self) -> str:
        return str(self.view["root_span_id"])

    @property
    def view(self) -> RowView:
        """The row as the API shows it and filters read it."""
        row, where = self.stored.row, self.stored.row.key.object
        fields = row.fields
        span_id = fields.get("span_id") or row.key.id
        known = {*EVENT_FIELDS, *IDENTITY_FIELDS}
        logged = fields.get("scores")
        columns = {
            "id": row.key.id, "xact": self.xact, "seq": self.seq,
            "created": datetime.fromisoformat(str(fields["created"])),
            "project_id": where.project_id, "object_type": where.object_type.value,
            "object_id": where.object_id, "span_id": span_id,
            "root_span_id": fields.get("root_span_id") or span_id,
            "span_parents": fields.get("span_parents") or None, "is_root": is_root(fields),
            "scoring_state": row.scoring_state,
            "extra": {name: fields[name] for name in fields if name not in known},
            **{name: fields.get(name) for name in EVENT_FIELDS},
            "scores": visible_scores(logged if isinstance(logged, dict) else None,
                                     self.computed),
        }
        return api_row(columns, org_id=self.org_id)

    @property
    def subject(self) -> Subject:
        view = self.view
        metrics = view["metrics"]
        end = metrics.get("end") if isinstance(metrics, dict) else None
        return Subject(
            key=self.key, seq=self.seq, span_id=str(view["span_id"]),
            root_span_id=str(view["root_span_id"]), xact=self.xact,
            content_xact=self.stored.content_xact, trigger_xact=self.stored.trigger_xact,
            has_base=self.stored.row.has_base,
            ended_at=float(end) if isinstance(end, int | float) else None, view=view,
        )


class MemoryRows:
    """Implements flows.logs.ingest.IngestStore, RowReader, ChangeStore and ExpiryStore.

    Its queries have no `sort`. While a test has set `away`, every write fails with that error.
    Each of `watchers` is told what a write makes of rows before these are kept, as what else
    the real store writes in the same transaction.
    """

    def __init__(
        self, projects: MemoryProjects, clock: Clock, *, resend_minutes: float = 60
    ) -> None:
        self._projects = projects
        self._clock = clock
        self._resend = timedelta(minutes=resend_minutes)
        self._rows: dict[RowKey, KeptRow] = {}
        self._places: dict[RowKey, RowSeq] = {}
        self._keys: dict[RowSeq, RowKey] = {}
        self._last_place = RowSeq(0)
        self._answers: dict[ResendName, tuple[datetime, Remembered]] = {}
        self._rejected: list[tuple[OrgId, datetime, RejectedRow]] = []
        self._xact = FIRST_XACT
        self.comments: list[RowWrite] = []
        self.audits: list[RowWrite] = []
        self.away: TallyardError | None = None
        self.watchers: list[Callable[[Mapping[RowKey, Draft]], None]] = []

    # --- writes

    def write(
        self, requests: Sequence[IngestRequest]
    ) -> list[IngestAnswer | TallyardError]:
        if self.away is not None:
            raise self.away
        return [self._write_one(request) for request in requests]

    def _write_one(self, request: IngestRequest) -> IngestAnswer | TallyardError:
        now, resend = self._clock(), request.resend
        known = {
            name: replace(one, age_s=(now - at).total_seconds())
            for name, (at, one) in self._answers.items() if at > now - self._resend
        }
        try:
            planned = answers_of([resend], known)
        except BadInput as error:
            return error
        (source,) = planned.sources
        answer = source if isinstance(source, IngestAnswer) else self._store(request, now)
        for name, one in planned.remembered.items():
            self._answers[name] = now, replace(one, answer=answer)
        return answer

    def _store(self, request: IngestRequest, now: datetime) -> IngestAnswer:
        xact = self.draw()
        drafts = Drafts(stored={key: kept.stored for key, kept in self._rows.items()})
        for write in request.writes:
            if write.comment is not None:
                self.comments.append(write)
                continue
            drafts.apply(
                self._with_parent(drafts, write), xact,
                sent_by=write.audit_source or request.sent_by,
            )
            if write.is_feedback or write.audit_source or write.is_delete:
                self.audits.append(write)
        for watch in self.watchers:
            watch(drafts.changed)
        for draft in drafts.changed.values():
            self._keep(draft, request.org_id, now)
        self._rejected += [
            (request.org_id, now, row) for row in request.rejected
            if row.row_id is None or not any(
                org == request.org_id and row == other for org, _, other in self._rejected
            )
        ]
        return IngestAnswer(
            row_ids=tuple(write.comment_id or write.key.id for write in request.writes),
            xact=xact,
        )

    def draw(self) -> Xact:
        """A new version, higher than all before."""
        self._xact += 1
        return Xact(self._xact)

    def place(self, key: RowKey) -> RowSeq:
        """Where the row comes in the order of arrival; if it is new, it comes last."""
        if key not in self._places:
            self._last_place = self._places[key] = RowSeq(self._last_place + 1)
            self._keys[self._last_place] = key
        return self._places[key]

    def _with_parent(self, drafts: Drafts, write: RowWrite) -> RowWrite:
        if write.parent_id is None:
            return write
        parent = drafts.current(RowKey(write.key.object, write.parent_id))
        fields = parent.fields if parent else {}
        span_id = str(fields.get("span_id") or write.parent_id)
        root = str(fields.get("root_span_id") or span_id)
        given: JsonObject = {"root_span_id": root, "span_parents": [span_id]}
        return replace(write, fields={**given, **write.fields}, parent_id=None)

    def _keep(self, draft: Draft, org_id: OrgId, now: datetime) -> None:
        row, key, before = draft.row, draft.row.key, self._rows.get(draft.row.key)
        keeps_nulls = not row.has_base
        fields: JsonObject = {"created": now.isoformat()} | {
            name: value for name, value in row.fields.items()
            if value is not None or (keeps_nulls and name in EVENT_FIELDS)
        }
        if row.has_base:    # a base that comes later may bring other ids
            fields.setdefault("span_id", key.id)
            fields.setdefault("root_span_id", fields["span_id"])
        is_withdrawn = draft.was_deleted or draft.has_stale_scores
        self._rows[key] = KeptRow(
            stored=StoredRow(
                row=replace(row, fields=fields), seq=self.place(key),
                content_xact=draft.content_xact, trigger_xact=draft.trigger_xact,
                was_scored=before is not None and before.stored.was_scored,
                created_by=draft.created_by,
            ),
            org_id=org_id, xact=draft.xact,
            first_xact=draft.xact if before is None else before.first_xact,
            computed=None if before is None or is_withdrawn else before.computed,
        )

    # --- what scoring writes

    def mark_scored(self, key: RowKey) -> None:
        """Notes that the row has outcomes."""
        kept = self._rows[key]
        self._rows[key] = replace(kept, stored=replace(kept.stored, was_scored=True))

    def set_computed(self, key: RowKey, scores: JsonObject | None, xact: Xact) -> None:
        """Shows scores of scorers on a row. Rows recorded together have one version, `xact`."""
        self._rows[key] = replace(self._rows[key], xact=xact, computed=scores)

    def put_score_span(
        self, row: Row, scores: JsonObject | None, *, of: RowKey, created_by: str, xact: Xact
    ) -> None:
        """Keeps a score span of the row `of`, in place of all that was there under its key."""
        before = self._rows.get(row.key)
        self._rows[row.key] = KeptRow(
            stored=StoredRow(
                row=row, seq=self.place(row.key), content_xact=xact, trigger_xact=None,
                was_scored=False, created_by=created_by,
            ),
            org_id=self._rows[of].org_id, xact=xact, computed=scores,
            first_xact=xact if before is None else before.first_xact,
        )

    def remove(self, key: RowKey) -> None:
        """Forgets the row; one that comes later under its key comes last."""
        del self._rows[key], self._keys[self._places.pop(key)]

    def expire(self, where: ObjectRef, before: datetime, *, is_dry_run: bool) -> Expired:
        traces: dict[object, list[KeptRow]] = {}
        for kept in self.of_object(where):
            traces.setdefault(kept.view["root_span_id"], []).append(kept)
        old = [
            rows for rows in traces.values()
            if all(
                datetime.fromisoformat(str(kept.view["created"])) < before for kept in rows
                if not is_made_by_scorer(kept.view)
            )
        ]
        if not is_dry_run:
            for kept in (kept for rows in old for kept in rows):
                self.remove(kept.key)
        return Expired(traces=len(old), rows=sum(map(len, old)))

    # --- reads

    def page(
        self, where: ObjectRef, org_id: OrgId, asked: FetchRequest, *, limit: int
    ) -> Page:
        passes = compile_filter(asked.filter, now=self._clock)
        found = [kept for kept in self.of_object(where) if passes(kept.view) is True]
        if asked.cursor is None:
            return self._traces(found, asked.after, limit)
        before, first = _read_cursor(asked.cursor)
        if first is not None:
            down_to, newest = first
            # A row that was written since may have passed the filter, and had any version.
            written = [
                kept for kept in self._rows.values()
                if kept.key.object == where and kept.xact > newest
            ]
            given = {
                root for root, rows in _by_trace([*found, *written]).items()
                if all(
                    (kept.xact if kept.xact <= newest else kept.first_xact, root) >= down_to
                    for kept in rows
                )
            }
            found = [kept for kept in found if kept.root_span_id not in given]
        found = [kept for kept in found if before is None or kept.seq < before]
        cursor = None
        if limit and len(found) > limit:
            cursor = _write_cursor(found[limit - 1].seq, first)
        return Page(rows=[dict(kept.view) for kept in found[:limit]], cursor=cursor)

    def _traces(
        self, found: Sequence[KeptRow], after: TracePlace | None, limit: int
    ) -> Page:
        """The first page of traces after a place: see RowReader.page."""
        places: dict[str, TracePlace] = {}
        shown: dict[RowKey, Xact] = {}
        for root, rows in _by_trace(found).items():
            present = TracePlace(Xact(min(kept.xact for kept in rows)), root)
            first = TracePlace(Xact(min(kept.first_xact for kept in rows)), root)
            if after is not None and min(present, first) >= after:
                continue
            is_former = after is not None and present >= after
            places[root] = first if is_former else present
            for kept in rows:
                is_outdated = is_former and (kept.first_xact, root) < (after or ())
                shown[kept.key] = kept.first_xact if is_outdated else kept.xact
        chosen = sorted(places, key=lambda root: places[root], reverse=True)[:limit]
        rows = sorted(
            (kept for kept in found if kept.root_span_id in chosen),
            key=lambda kept: (shown[kept.key], kept.root_span_id, kept.seq), reverse=True,
        )
        cursor = None
        if limit and after is None and len(places) > limit:
            cursor = _write_cursor(None, (places[chosen[-1]], Xact(self._xact)))
        return Page(
            rows=[{**kept.view, "_xact_id": str(shown[kept.key])} for kept in rows],
            cursor=cursor,
        )

    def query(
        self, query: Query, org_id: OrgId, projects: tuple[ProjectId, ...], *,
        limit_max: int, tz_offset: int,
    ) -> QueryPage:
        if query.sort:
            raise NotImplementedError("the store in memory sorts no query")
        limit = query.limit or limit_max
        if limit > limit_max:
            raise BadInput(f"a limit is at most {limit_max}")
        passes = compile_filter(query.filter, now=self._clock, tz_offset=tz_offset)
        found = self._after(query.cursor, [
            kept for kept in sorted(self._rows.values(), key=lambda kept: -kept.seq)
            if kept.key.object.project_id in projects and not kept.is_deleted
            and kept.key.object.object_type.value == query.object_type
            and str(kept.key.object.object_id) in query.object_ids
            and passes(kept.view) is True
        ])
        fields = [
            (field.name, compile_value(field.expr, now=self._clock, tz_offset=tz_offset))
            for field in query.select if field.expr is not None
        ]
        has_star = len(fields) < len(query.select)
        return QueryPage(
            rows=[
                {**(kept.view if has_star else {}),
                 **{name: read(kept.view) for name, read in fields}}
                for kept in found[:limit]
            ],
            cursor=f"s{found[:limit][-1].seq}" if found else None,
            schema={"type": "array", "items": {"type": "object"}},
        )

    def rejected(
        self, org_id: OrgId, project_id: ProjectId | None, limit: int
    ) -> list[JsonObject]:
        return [
            {
                "id": row.row_id, "span_id": row.span_id, "reason": row.reason,
                "project_id": None if row.project_id is None else str(row.project_id),
                "excerpt": row.excerpt, "created": instant_text(at),
            }
            for at, row in self._rejected_of(org_id, project_id)
        ][:limit]

    def rejected_parts(
        self, org_id: OrgId, project_id: ProjectId | None, ids: Sequence[str], *,
        or_of_none: bool,
    ) -> list[RejectedPart]:
        return [
            RejectedPart(
                project_id=None if row.project_id is None else str(row.project_id),
                reason=row.reason, excerpt=row.excerpt, created=at,
            )
            for at, row in self._rejected_of(org_id, None)
            if (row.row_id in ids or row.span_id in ids) and (
                project_id in {None, row.project_id} or (or_of_none and row.project_id is None)
            )
        ][:REJECTED_MAX]

    def _rejected_of(
        self, org_id: OrgId, project_id: ProjectId | None
    ) -> list[tuple[datetime, RejectedRow]]:
        return [
            (at, row) for of, at, row in reversed(self._rejected)
            if of == org_id and project_id in {None, row.project_id}
        ]

    def now(self) -> Xact:
        return Xact(self._xact)

    def changes(self, project_id: ProjectId, after: Xact, limit: int) -> Changes:
        changed = sorted(
            (
                kept for kept in self._rows.values()
                if kept.key.object.project_id == project_id and kept.xact > after
                and not kept.is_deleted
            ),
            key=lambda kept: kept.xact,
        )
        if len(changed) > limit:
            changed = [kept for kept in changed if kept.xact <= changed[limit - 1].xact]
        rows = [_changed(kept) for kept in changed]
        return Changes(rows=rows, upto=rows[-1].xact if len(rows) >= limit else self.now())

    # --- what the stores of other capabilities read of rows

    def of_object(self, where: ObjectRef) -> list[KeptRow]:
        """The object's rows, newest first."""
        found = [
            kept for kept in self._rows.values()
            if kept.key.object == where and not kept.is_deleted
        ]
        return sorted(found, key=lambda kept: -kept.seq)

    def kept(self) -> list[KeptRow]:
        """Every row, deleted ones too."""
        return list(self._rows.values())

    def present(self) -> list[KeptRow]:
        """Every row that was not deleted."""
        return [kept for kept in self._rows.values() if not kept.is_deleted]

    def find(self, key: RowKey) -> KeptRow | None:
        """The row; None if there is none, or it was deleted."""
        kept = self._rows.get(key)
        return None if kept is None or kept.is_deleted else kept

    def find_at(self, where: ObjectRef, place: RowSeq) -> KeptRow | None:
        """The row of the object that came in this place, if it is there."""
        key = self._keys.get(place)
        return None if key is None or key.object != where else self.find(key)

    def subjects(self, rows: Sequence[RowKey]) -> list[Subject | None]:
        found = [self.find(key) for key in rows]
        return [None if kept is None else kept.subject for kept in found]

    def spans_of(self, trace: TraceRef) -> list[JsonObject]:
        """The trace's spans, oldest first, as `store.logs.traces` gives them (a SpansOf)."""
        found = [kept.view for kept in self.of_object(trace.where)[::-1]]
        spans: list[JsonObject] = [
            {name: view[name] for name in TRACED} for view in found
            if view["root_span_id"] == trace.root_span_id
        ]
        if len(spans) > TRACE_SPANS_MAX:
            raise TraceTooLarge(f"{trace.root_span_id} has more than {TRACE_SPANS_MAX} spans")
        return spans

    def recent(self, where: ObjectRef) -> Iterator[list[Subject]]:
        rows = [kept.subject for kept in self.of_object(where)]
        for start in range(0, len(rows), PAGE):
            yield rows[start : start + PAGE]

    def named(self, org_id: OrgId, text: str) -> list[KeptRow]:
        """The rows of the organisation's projects whose row id or span id is `text`."""
        return [
            kept for kept in self._rows.values()
            if kept.org_id == org_id and not kept.is_deleted
            and self._projects.is_present(kept.key.object.project_id)
            and text in {kept.key.id, kept.view["span_id"]}
        ]

    def _after(self, cursor: str | None, rows: list[KeptRow]) -> list[KeptRow]:
        if cursor is None:
            return rows
        if not cursor.startswith("s") or not cursor[1:].isdecimal():
            raise BadInput("not a cursor", path="cursor")
        return [kept for kept in rows if kept.seq < int(cursor[1:])]


First = tuple[TracePlace, Xact]
"""A first page of traces: its last trace's place, and the newest version of its time."""


def _by_trace(rows: Sequence[KeptRow]) -> dict[str, list[KeptRow]]:
    traces: dict[str, list[KeptRow]] = {}
    for kept in rows:
        traces.setdefault(kept.root_span_id, []).append(kept)
    return traces


def _write_cursor(before: int | None, first: First | None) -> str:
    if first is None:
        return f"s{before}"
    (xact, root), newest = first
    return "t" + orjson.dumps([before, xact, root, newest]).decode()


def _read_cursor(cursor: str) -> tuple[int | None, First | None]:
    if cursor.startswith("s") and cursor[1:].isdecimal():
        return int(cursor[1:]), None
    if not cursor.startswith("t"):
        raise BadInput("not a cursor", path="cursor")
    before, xact, root, newest = orjson.loads(cursor[1:])
    return before, (TracePlace(xact, root), newest)


def visible_scores(
    logged: JsonObject | None, computed: JsonObject | None
) -> JsonObject | None:
    """A row's scores as they are shown, by name; None where it has none.

    A score that a client or a person logged is shown instead of a computed score of the same
    name. A logged null hides no computed score.
    """
    if computed is None:
        return logged
    logged = logged or {}
    return logged | computed | {k: value for k, value in logged.items() if value is not None}


def _cursor(rows: Sequence[KeptRow], limit: int) -> str | None:
    return f"s{rows[limit - 1].seq}" if limit and len(rows) > limit else None


def _changed(kept: KeptRow) -> ChangedRow:
    view = kept.view
    attributes, scores = view["span_attributes"], view["scores"]
    name = attributes.get("name") if isinstance(attributes, dict) else None
    return ChangedRow(
        xact=kept.xact, id=kept.key.id, span_id=str(view["span_id"]),
        name=None if name is None else str(name), is_score_span=is_made_by_scorer(view),
        scores=scores if isinstance(scores, dict) else None,
    )
