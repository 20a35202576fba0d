"""Writes a group of requests in one transaction, with one version (`xact`) for each request.

The order of the steps matters. First the rows are locked in the order of their keys, so that
writers cannot deadlock. Then the versions are drawn, so that the version of a row never
decreases. Rows, outbox entries and answers commit together, so that an acknowledged row is
never lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import groupby
from typing import Any

import orjson
import psycopg
from psycopg import errors as pg

from flows.logs.ingest import IngestAnswer, IngestRequest
from spans.clock import Clock
from spans.columns import API_COLUMNS, EVENT_FIELDS
from spans.drafts import Draft, Drafts, StoredRow
from spans.errors import BadInput, Contended, StoreUnavailable, TallyardError
from spans.ids import Xact
from spans.json import JsonObject
from spans.row import (
    IDENTITY_FIELDS,
    ObjectRef,
    Row,
    RowKey,
    RowWrite,
)
from store.postgres.copy import (
    COPY_NEW,
    COPY_STAGED,
    EVENT_COLUMNS,
    UPDATE_FROM_STAGED,
    copy_lines,
    span_line,
)
from store.postgres.counters import Counts
from store.postgres.database import Cursor, Database
from store.postgres.row_views import EXPRESSIONS
from store.postgres.versions import draw_versions

TRIES_MAX = 5
"""Tries of one request that conflicts with other writers. Each conflict means that another
writer made progress."""

CONFLICTS = (pg.UniqueViolation, Contended)

ROW_FIELDS = (*IDENTITY_FIELDS, *EVENT_FIELDS)
# The fields that a merge set to null before the row's base arrived. They are stored as JSON
# null; SQL null means that the field was never set.
CLEARED = "array_remove(array[" + ", ".join(
    f"case when {column}::text = 'null' then '{name}' end"
    for name, column in zip(EVENT_FIELDS, EVENT_COLUMNS, strict=True)
) + "], null)"
SELECT_ROWS = f"""
    select id, case when has_base then null else {CLEARED} end,
           has_base, deleted_at is not null, content_xact, trigger_xact, scoring_state,
           extra, computed_scores is not null or exists (
             select from outcome where outcome.project_id = span.project_id
                and outcome.object_id = span.object_id and outcome.subject_id = span.id),
           {", ".join((*IDENTITY_FIELDS, *EVENT_COLUMNS))}
      from span
     where project_id = %s and object_type = %s and object_id = %s and id = any(%s)
     order by id for update
"""
# The names and values of the view that `row_at_end` keeps of a row.
AT_END = ", ".join(
    f"'{name}', {EXPRESSIONS[name]}::jsonb"
    for name, column in API_COLUMNS.items() if column.is_kept_at_end
)
KEEP_AT_END = f"""
    insert into row_at_end (project_id, object_id, row_id, trigger_xact, view)
    select span.project_id, span.object_id, span.id, trigger_xact, jsonb_build_object({AT_END})
      from span
      join unnest(%s::uuid[], %s::uuid[], %s::text[]) as changed(project, object, id)
        on span.project_id = changed.project and span.object_id = changed.object
       and span.id = changed.id
     where exists (select from outbox
                    where outbox.project_id = span.project_id
                      and outbox.xact = span.trigger_xact and matched_at is null)
    on conflict do nothing
"""


@dataclass(slots=True)
class Group:
    """The rows, comments and audit entries that one transaction writes."""

    rows: Drafts
    comments: list[tuple[Any, ...]] = field(default_factory=list)
    audits: list[tuple[Any, ...]] = field(default_factory=list)


class SpanWriter:
    """Implements flows.logs.ingest.IngestStore."""

    def __init__(self, database: Database, clock: Clock, *, resend_minutes: float) -> None:
        self._database = database
        self._clock = clock
        self._resend_minutes = resend_minutes

    def write(self, requests: Sequence[IngestRequest]) -> list[IngestAnswer | TallyardError]:
        """Store the requests. Return an answer or an error for each of them, in their order.

        They share one transaction, and each gets its own version. If the transaction fails,
        each request is written alone. Safe to repeat: a request with the same key and body gets
        its first answer again, for `resend_minutes`.
        """
        try:
            return list(self._write_group(requests))
        except (psycopg.Error, TallyardError) as error:
            if len(requests) == 1:
                return [self._write_alone(requests[0], error)]
        return [self._write_alone(request, None) for request in requests]

    def _write_alone(
        self, request: IngestRequest, error: Exception | None
    ) -> IngestAnswer | TallyardError:
        for _ in range(TRIES_MAX):
            if error is not None and not isinstance(error, CONFLICTS):
                break
            try:
                return self._write_group([request])[0]
            except (psycopg.Error, TallyardError) as again:
                error = again
        if isinstance(error, TallyardError):
            return error
        if isinstance(error, pg.DataError | pg.ProgramLimitExceeded):
            return BadInput(f"PostgreSQL cannot hold this: {str(error).splitlines()[0]}")
        return StoreUnavailable(f"PostgreSQL: {error}")

    def _write_group(self, requests: Sequence[IngestRequest]) -> list[IngestAnswer]:
        now = self._clock()
        with self._database.cursor() as cursor:
            known = self._known_answers(cursor, requests)
            fresh = [
                request for request in _once_each(requests)
                if (request.key_id, request.body_hash) not in known
            ]
            group = Group(rows=Drafts(stored=_locked_rows(cursor, fresh)))
            for request, xact in zip(fresh, draw_versions(cursor, len(fresh)), strict=True):
                known[request.key_id, request.body_hash] = _gather(
                    cursor, group, request, xact
                )
            if fresh:
                _write_rows(cursor, group, now)
                self._write_requests(cursor, group, fresh, known)
        return [known[request.key_id, request.body_hash] for request in requests]

    def _known_answers(
        self, cursor: Cursor, requests: Sequence[IngestRequest]
    ) -> dict[tuple[str, bytes], IngestAnswer]:
        cursor.execute(
            """select key_id, body_hash, answer from ingest_request
                where key_id = any(%s) and body_hash = any(%s)
                  and created > now() - make_interval(secs => %s)""",
            (list({r.key_id for r in requests}), [r.body_hash for r in requests],
             self._resend_minutes * 60),
        )
        return {
            (key_id, body_hash): IngestAnswer(
                row_ids=tuple(answer["row_ids"]), xact=Xact(answer["xact"])
            )
            for key_id, body_hash, answer in cursor.fetchall()
        }

    def _write_requests(
        self,
        cursor: Cursor,
        group: Group,
        requests: Sequence[IngestRequest],
        answers: dict[tuple[str, bytes], IngestAnswer],
    ) -> None:
        counts = Counts()
        _write_outbox(cursor, group)
        cursor.execute(
            """insert into ingest_request (key_id, body_hash, answer)
               select key_id, body_hash, answer::jsonb
                 from unnest(%s::text[], %s::bytea[], %s::text[])
                      as t(key_id, body_hash, answer)
                order by key_id, body_hash
               on conflict (key_id, body_hash) do update
                  set answer = excluded.answer, created = now()
                where ingest_request.created <= now() - make_interval(secs => %s)""",
            (
                [request.key_id for request in requests],
                [request.body_hash for request in requests],
                [_answer_text(answers[r.key_id, r.body_hash]) for r in requests],
                self._resend_minutes * 60,
            ),
        )
        if cursor.rowcount != len(requests):
            # Another connection committed the same request first.
            raise pg.UniqueViolation("a request was sent twice at once")
        for request in requests:
            counts.add("ingested_rows", {}, len(request.writes))
            counts.add("rejected_rows", {}, len(request.rejected))
        _write_rejected(cursor, requests)
        _write_comments(cursor, group)
        counts.write(cursor)


def _answer_text(answer: IngestAnswer) -> str:
    return orjson.dumps({"row_ids": answer.row_ids, "xact": answer.xact}).decode()


def _once_each(requests: Iterable[IngestRequest]) -> list[IngestRequest]:
    return list({(request.key_id, request.body_hash): request for request in requests}.values())


def _locked_rows(
    cursor: Cursor, requests: Iterable[IngestRequest]
) -> dict[RowKey, StoredRow]:
    keys = sorted({write.key for request in requests for write in request.writes})
    stored: dict[RowKey, StoredRow] = {}
    for where, group in groupby(keys, key=lambda key: key.object):
        cursor.execute(SELECT_ROWS, (*where, [key.id for key in group]))
        for row_id, *columns in cursor.fetchall():
            stored[RowKey(where, row_id)] = _stored_row(RowKey(where, row_id), columns)
    return stored


def _stored_row(key: RowKey, columns: list[Any]) -> StoredRow:
    (cleared, has_base, is_deleted, content_xact, trigger_xact, state, extra, scored,
     *values) = columns
    fields: JsonObject = dict.fromkeys(cleared or ())
    fields |= {
        name: value for name, value in zip(ROW_FIELDS, values, strict=True)
        if value is not None
    }
    if isinstance(created := values[0], datetime):
        fields["created"] = created.isoformat()
    if not has_base and fields.get("span_id") == key.id:
        # We set these ids because the row came without them. Its base may bring others.
        del fields["span_id"]
        if fields.get("root_span_id") == key.id:
            del fields["root_span_id"]
    return StoredRow(
        row=Row(
            key=key, fields={**fields, **(extra or {})}, has_base=has_base,
            is_deleted=is_deleted, scoring_state=state,
        ),
        content_xact=content_xact, trigger_xact=trigger_xact, was_scored=scored,
    )


def _gather(cursor: Cursor, group: Group, request: IngestRequest, xact: Xact) -> IngestAnswer:
    """Apply the request's writes, in order, to the rows in memory. Return its answer."""
    for write in request.writes:
        if write.comment is not None:
            group.comments.append(_comment(write, xact))
            continue
        if write.parent_id is not None:
            write = _with_parent(cursor, group, write)  # noqa: PLW2901 the same write, told more
        group.rows.apply(write, xact)
        if write.is_feedback or write.audit_source or write.is_delete:
            group.audits.append(_audit(write, xact))
    return IngestAnswer(
        row_ids=tuple(write.comment_id or write.key.id for write in request.writes), xact=xact
    )


def _with_parent(cursor: Cursor, group: Group, write: RowWrite) -> RowWrite:
    """The write with `root_span_id` and `span_parents` taken from its parent (a row id).

    A parent that is not stored yet is assumed to be a root whose span id is its row id. That is
    right if the parent arrives without span ids.
    """
    parent_id = write.parent_id or ""
    parent = group.rows.current(RowKey(write.key.object, parent_id))
    span_id, root = parent_id, parent_id
    if parent is not None:
        span_id = str(parent.fields.get("span_id") or parent_id)
        root = str(parent.fields.get("root_span_id") or span_id)
    else:
        cursor.execute(
            """select span_id, root_span_id from span
                where project_id = %s and object_type = %s and object_id = %s and id = %s""",
            (*write.key.object, parent_id),
        )
        if found := cursor.fetchone():
            span_id, root = found
    given: JsonObject = {"root_span_id": root, "span_parents": [span_id]}
    return replace(write, fields={**given, **write.fields}, parent_id=None)


def _keep_how_rows_ended(cursor: Cursor, group: Group) -> None:
    """Keep a view of waiting rows as they are before this write.

    These rows wait to be matched, and this write changes them without starting a new match. The
    filters of the rules must see the row as it was when it was queued for matching.
    """
    waiting = [
        (where.project_id, where.object_id, draft.row.key.id)
        for draft in group.rows.changed.values()
        for where in (draft.row.key.object,)
        if draft.stored is not None
        and draft.trigger_xact is not None
        and draft.trigger_xact == draft.stored.trigger_xact
    ]
    if waiting:
        cursor.execute(
            KEEP_AT_END,
            tuple(map(list, zip(*waiting, strict=True))),
        )


def _write_rows(cursor: Cursor, group: Group, now: datetime) -> None:
    at = now.isoformat()
    _keep_how_rows_ended(cursor, group)
    new: list[bytes] = []
    changed: list[bytes] = []
    deleted: list[RowKey] = []
    stale: list[RowKey] = []
    for key in sorted(group.rows.changed):
        draft = group.rows.changed[key]
        line = span_line(
            draft.row, xact=draft.xact, content_xact=draft.content_xact,
            trigger_xact=draft.trigger_xact, now=at,
        )
        (new if draft.stored is None else changed).append(line)
        if draft.was_deleted and draft.stored is not None:
            deleted.append(key)
        elif draft.has_stale_scores:
            stale.append(key)
    if new:
        copy_lines(cursor, COPY_NEW, new)
    if changed:
        copy_lines(cursor, COPY_STAGED, changed)
        cursor.execute(UPDATE_FROM_STAGED)
    for where, keys in groupby(deleted, key=lambda key: key.object):
        ids = [key.id for key in keys]
        _withdraw_scores(cursor, where, ids)
        cursor.execute(
            """delete from outcome
                where project_id = %s and object_id = %s and subject_id = any(%s)""",
            (where.project_id, where.object_id, ids),
        )
    for where, keys in groupby(stale, key=lambda key: key.object):
        _withdraw_scores(cursor, where, [key.id for key in keys])


def _withdraw_scores(cursor: Cursor, where: ObjectRef, row_ids: list[str]) -> None:
    """Delete the rows' computed scores and score spans. Outcomes stay as history."""
    cursor.execute(
        """delete from span where project_id = %s and object_type = %s and object_id = %s
              and id in (select score_span_id::text from outcome
                          where project_id = %s and object_id = %s and subject_id = any(%s))""",
        (*where, where.project_id, where.object_id, row_ids),
    )
    cursor.execute(
        """update span set computed_scores = null, computed_by = null
            where project_id = %s and object_type = %s and object_id = %s and id = any(%s)""",
        (*where, row_ids),
    )


def _write_outbox(cursor: Cursor, group: Group) -> None:
    """Add one entry for each object and version, with the rows that must be matched."""
    entries: dict[tuple[ObjectRef, Xact], list[Draft]] = {}
    for draft in group.rows.changed.values():
        before = draft.stored.trigger_xact if draft.stored else None
        if draft.trigger_xact is not None and draft.trigger_xact != before:
            entries.setdefault((draft.row.key.object, draft.trigger_xact), []).append(draft)
    if not entries:
        return
    cursor.execute(
        """insert into outbox (project_id, object_type, object_id, xact, row_ids, rescored)
           select project_id, object_type, object_id, xact,
                  array(select json_array_elements_text(row_ids)), rescored
             from json_to_recordset(%s::json)
                  as t(project_id uuid, object_type text, object_id uuid, xact bigint,
                       row_ids json, rescored boolean)""",
        (
            orjson.dumps(
                [
                    {
                        **where._asdict(),
                        "xact": xact,
                        "row_ids": [draft.row.key.id for draft in drafts],
                        "rescored": any(d.stored and d.stored.was_scored for d in drafts),
                    }
                    for (where, xact), drafts in entries.items()
                ]
            ).decode(),
        ),
    )


def _write_rejected(cursor: Cursor, requests: Iterable[IngestRequest]) -> None:
    rows = [
        (request.org_id, row.project_id, row.row_id, row.reason, row.excerpt)
        for request in requests
        for row in request.rejected
    ]
    if rows:
        cursor.executemany(
            """insert into rejected_row (org_id, project_id, row_id, reason, excerpt)
               values (%s, %s, %s, %s, %s)""",
            rows,
        )


def _comment(write: RowWrite, xact: Xact) -> tuple[Any, ...]:
    where = write.key.object
    return (
        write.comment_id, where.project_id, where.object_id, write.key.id,
        orjson.dumps(write.comment).decode(), write.audit_source or "external",
        orjson.dumps(write.audit_metadata).decode(), xact,
    )


def _audit(write: RowWrite, xact: Xact) -> tuple[Any, ...]:
    where = write.key.object
    action = "delete" if write.is_delete else "merge" if write.is_merge else "upsert"
    return (
        where.project_id, where.object_id, write.key.id, xact, action,
        write.audit_source or ("external" if write.is_feedback else "api"),
        orjson.dumps(write.audit_metadata).decode(),
    )


def _write_comments(cursor: Cursor, group: Group) -> None:
    if group.comments:
        cursor.executemany(
            """insert into comment (id, project_id, object_id, row_id, body, source, metadata,
                                    xact, created)
               values (%s, %s, %s, %s, %s, %s, %s, %s, now())
               on conflict (project_id, object_id, row_id, id) do update
                  set body = excluded.body, xact = excluded.xact""",
            group.comments,
        )
    if group.audits:
        cursor.executemany(
            """insert into audit_entry (project_id, object_id, row_id, xact, action, source,
                                        metadata)
               values (%s, %s, %s, %s, %s, %s, %s)""",
            group.audits,
        )
