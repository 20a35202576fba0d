"""Writes a group of requests in one transaction, with one version (`xact`) for each request.

The order of the steps matters. First the heads of the rows are locked in the order of their
places, so that writers cannot deadlock. Then the versions are drawn, so that the version of a
row never decreases. Rows, outbox entries and answers commit together, so that an acknowledged
row is never lost.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import orjson
import psycopg
from psycopg import errors as pg

from flows.logs.ingest import IngestRequest
from spans.clock import Clock
from spans.columns import API_COLUMNS, EVENT_FIELDS, SCORER_ARGUMENTS
from spans.drafts import Draft, Drafts, StoredRow
from spans.errors import BadInput, Contended, StoreUnavailable, TallyardError
from spans.ids import RowSeq, Xact
from spans.json import JsonObject
from spans.repair.faults import INGEST_WARNINGS
from spans.resends import (
    GroupAnswers,
    IngestAnswer,
    Remembered,
    Resend,
    ResendName,
    answers_of,
)
from spans.row import (
    IDENTITY_FIELDS,
    ObjectRef,
    Row,
    RowKey,
    RowWrite,
    span_ids,
)
from store.postgres.copy import (
    COPY_BODIES,
    COPY_HEADS,
    EVENT_COLUMNS,
    STAGE_BODIES,
    STAGE_HEADS,
    UPDATE_BODIES,
    UPDATE_HEADS,
    body_line,
    copy_lines,
    head_line,
)
from store.postgres.counters import Counts
from store.postgres.database import Cursor, Database
from store.postgres.leases import by_key
from store.postgres.row_deletion import (
    DELETE_FORMER_CONTENT,
    DELETE_OUTCOMES,
    withdraw_scores,
)
from store.postgres.row_views import EXPRESSIONS, one_row
from store.postgres.score_index import COPY_SCORES, changing_scores, entry_lines
from store.postgres.versions import draw_versions

TRIES_MAX = 5
"""Tries of one request that conflicts with other writers. Each conflict means that another
writer made progress."""

CONFLICTS = (pg.UniqueViolation, Contended)

FAULTS = (psycopg.Error, TallyardError, TypeError, ValueError, RecursionError)
"""What may be raised because of one request, and must not cost the others of its group: errors
of PostgreSQL, and of the writers of JSON and text about what they cannot write."""

ROW_FIELDS = (*IDENTITY_FIELDS, *EVENT_FIELDS)
# The rows are found before they are locked, since PostgreSQL locks them in the order in which
# it finds them. A score span has computed scores but no `computed_by`, since nothing scored it.
LOCK_ROWS = """
    with found as materialized (
      select asked.object_no, asked.id, span.seq
        from unnest(%s::integer[], %s::text[]) as asked(object_no, id)
        join span on span.object_no = asked.object_no and span.id = asked.id
       order by asked.object_no, span.seq)
    select found.object_no, found.id, head.* from found
     cross join lateral (
       select seq, content_xact, trigger_xact,
              computed_by is not null or exists (
                select from outcome where subject_seq = span_head.seq) as was_scored
         from span_head
        where span_head.object_no = found.object_no and span_head.seq = found.seq
          for no key update) head
"""
# The fields that a merge set to null before the row's base arrived. They are stored as JSON
# null; SQL null means that the field was never set.
CLEARED = "array_remove(array[" + ", ".join(
    f"case when row.{column}::text = 'null' then '{name}' end"
    for name, column in zip(EVENT_FIELDS, EVENT_COLUMNS, strict=True)
) + "], null)"
# Read once the heads are locked, so that nobody changes the bodies any more.
READ_ROWS = f"""
    select row.object_no, row.seq, case when row.has_base then null else {CLEARED} end,
           row.has_base,
           row.deleted_at is not null, row.scoring_state, row.extra, row.created_by,
           {", ".join(f"row.{name}" for name in (*IDENTITY_FIELDS, *EVENT_COLUMNS))}
      from unnest(%s::integer[], %s::bigint[]) as asked(object_no, seq)
     cross join lateral ({one_row("shown_span")}) row
"""
# The names and values of the view that `row_at_end` keeps of a row.
AT_END = ", ".join(
    f"'{name}', {EXPRESSIONS[name]}::jsonb"
    for name, column in API_COLUMNS.items() if column.is_kept_at_end
)
KEEP_AT_END = f"""
    insert into row_at_end (object_no, seq, trigger_xact, view)
    select row.object_no, row.seq, row.trigger_xact, jsonb_build_object({AT_END})
      from unnest(%s::integer[], %s::bigint[]) as asked(object_no, seq)
     cross join lateral ({one_row("logged_span")}) row
     where exists (select from outbox
                    where outbox.object_no = row.object_no and outbox.xact = row.trigger_xact)
    on conflict do nothing
"""
KEEP_CONTENT = f"""
    insert into former_content (object_no, seq, until_xact, {", ".join(SCORER_ARGUMENTS)})
    select object_no, span.seq, until_xact, {", ".join(SCORER_ARGUMENTS)}
      from unnest(%s::bigint[], %s::bigint[]) as changed(seq, until_xact)
      join span on span.seq = changed.seq and {by_key("scored_version is null")}
"""

# A score span that nobody has written over is in the trace of the row that it is about.
MOVE_SCORE_SPANS = """
    update span set root_span_id = moved.root
      from unnest(%s::bigint[], %s::text[]) as moved(seq, root)
     where span.scored_seq = moved.seq and span.scored_version is not null
"""

# In the order of their keys, so that writers cannot deadlock.
REMEMBERED = """
    select key_id, name, body_hash, tries, answer,
           extract(epoch from now() - created)::float8
      from unnest(%(key_ids)s::text[], %(names)s::bytea[]) as asked(key_id, name)
      join ingest_request using (key_id, name)
     where created > now() - make_interval(secs => %(seconds)s)
     order by key_id, name
       for update of ingest_request
"""
# What was read, and what was too old to be read. What another connection has remembered since
# stays, and shows that this request is a later try of that one.
FORGET = """
    delete from ingest_request
     using unnest(%(key_ids)s::text[], %(names)s::bytea[], %(are_known)s::boolean[])
           as old(key_id, name, is_known)
     where ingest_request.key_id = old.key_id and ingest_request.name = old.name
       and (is_known or created <= now() - make_interval(secs => %(seconds)s))
"""
REMEMBER = """
    insert into ingest_request (key_id, name, body_hash, tries, answer)
    select key_id, name, body_hash, tries, answer::jsonb
      from unnest(%(key_ids)s::text[], %(names)s::bytea[], %(body_hashes)s::bytea[],
                  %(tries)s::bigint[], %(answers)s::text[])
           as t(key_id, name, body_hash, tries, answer)
     order by key_id, name
        on conflict do nothing
"""
# A client that got an error sends its rows again, at most for some minutes.
REJECT = """
    insert into rejected_row (org_id, project_id, row_id, span_id, reason, excerpt)
    select %(org)s, %(project)s, %(row)s, %(span)s, %(reason)s, %(excerpt)s
     where not exists (
       select from rejected_row
        where org_id = %(org)s and row_id = %(row)s and created > now() - interval '10 minutes'
          and reason = %(reason)s and excerpt = %(excerpt)s)
"""


@dataclass(slots=True)
class Group:
    """The rows, comments and audit entries that one transaction writes.

    `objects` has the numbers of their objects, and `places` those of the rows: where each comes
    in the order of arrival.
    """

    objects: Mapping[ObjectRef, int]
    rows: Drafts
    places: dict[RowKey, RowSeq] = field(default_factory=dict)
    comments: list[tuple[Any, ...]] = field(default_factory=list)
    audits: list[tuple[Any, ...]] = field(default_factory=list)

    def keys_of(self, drafts: Iterable[Draft]) -> tuple[list[int], list[RowSeq]]:
        """The keys of the drafts' rows: the numbers of their objects, and their places."""
        keys = [draft.row.key for draft in drafts]
        return [self.objects[key.object] for key in keys], [self.places[key] for key in keys]


class SpanWriter:
    """Implements flows.logs.ingest.IngestStore."""

    def __init__(self, database: Database, clock: Clock, *, resend_minutes: float) -> None:
        self._database = database
        self._clock = clock
        self._resend_minutes = resend_minutes

    def write(self, requests: Sequence[IngestRequest]) -> list[IngestAnswer | Exception]:
        """Store the requests. Return an answer or an error for each of them, in their order.

        They share one transaction, and each gets its own version. If the transaction fails,
        each request is written alone. A later try of a request that is remembered gets its
        answer. Requests with an Idempotency-Key are remembered for `resend_minutes`.
        """
        try:
            return list(self._write_group(requests))
        except FAULTS as error:
            if len(requests) == 1:
                return [self._write_alone(requests[0], error)]
        return [self._write_alone(request, None) for request in requests]

    def _write_alone(
        self, request: IngestRequest, error: Exception | None
    ) -> IngestAnswer | Exception:
        for _ in range(TRIES_MAX):
            if error is not None and not isinstance(error, CONFLICTS):
                break
            try:
                return self._write_group([request])[0]
            except FAULTS as again:
                error = again
        if error is not None and not isinstance(error, psycopg.Error):
            return error
        if isinstance(error, pg.DataError | pg.ProgramLimitExceeded):
            return BadInput(f"PostgreSQL cannot hold this: {str(error).splitlines()[0]}")
        return StoreUnavailable(f"PostgreSQL: {error}")

    def _write_group(self, requests: Sequence[IngestRequest]) -> list[IngestAnswer]:
        now = self._clock()
        numbers = self._database.numbers
        objects = {
            where: numbers.object_no(where)
            for where in {write.key.object for one in requests for write in one.writes}
        }
        with self._database.cursor() as cursor:
            known = self._remembered(cursor, [r.resend for r in requests if r.resend])
            planned = answers_of((request.resend for request in requests), known)
            fresh = {
                place: request for place, request in enumerate(requests)
                if planned.sources[place] == place
            }
            keys = {write.key for request in fresh.values() for write in request.writes}
            stored = _locked_rows(cursor, objects, keys)
            versions, seqs = draw_versions(
                cursor, len(fresh), new_rows=len(keys) - len(stored)
            )
            group = Group(objects=objects, rows=Drafts(stored=stored))
            made = {
                place: _gather(cursor, group, request, xact)
                for (place, request), xact in zip(fresh.items(), versions, strict=True)
            }
            if fresh:
                _write_rows(cursor, group, seqs, now)
                _write_beside_rows(cursor, group, fresh.values())
            if planned.remembered:
                self._remember(cursor, planned, made, known)
        return [
            made[source] if isinstance(source, int) else source for source in planned.sources
        ]

    def _remembered(
        self, cursor: Cursor, resends: Sequence[Resend]
    ) -> dict[ResendName, Remembered]:
        """What is remembered of these requests. Their memories are locked."""
        if not resends:
            return {}
        cursor.execute(REMEMBERED, {
            "key_ids": [resend.name.key_id for resend in resends],
            "names": [resend.name.digest for resend in resends],
            "seconds": self._resend_minutes * 60,
        })
        return {
            ResendName(key_id, name): Remembered(
                body_hash=body_hash, tries=tries, age_s=age_s,
                answer=IngestAnswer(
                    row_ids=tuple(answer["row_ids"]), xact=Xact(answer["xact"])
                ),
            )
            for key_id, name, body_hash, tries, answer, age_s in cursor.fetchall()
        }

    def _remember(
        self, cursor: Cursor, planned: GroupAnswers, made: Mapping[int, IngestAnswer],
        known: Collection[ResendName],
    ) -> None:
        """Remember the answers in place of the `known` ones under the same names."""
        names = sorted(planned.remembered)
        given = {
            "key_ids": [name.key_id for name in names],
            "names": [name.digest for name in names],
        }
        cursor.execute(FORGET, {
            **given, "are_known": [name in known for name in names],
            "seconds": self._resend_minutes * 60,
        })
        one = [planned.remembered[name] for name in names]
        answers = [
            made[each.answer] if isinstance(each.answer, int) else each.answer for each in one
        ]
        cursor.execute(REMEMBER, {
            **given,
            "body_hashes": [each.body_hash for each in one],
            "tries": [each.tries for each in one],
            "answers": [
                orjson.dumps({"row_ids": answer.row_ids, "xact": answer.xact}).decode()
                for answer in answers
            ],
        })
        if cursor.rowcount != len(names):
            # Another connection has remembered one of them since they were read.
            raise pg.UniqueViolation("a request was sent twice at once")


def _write_beside_rows(
    cursor: Cursor, group: Group, requests: Collection[IngestRequest]
) -> None:
    counts = Counts()
    _write_outbox(cursor, group)
    for request in requests:
        counts.add("ingested_rows", {}, len(request.writes))
        counts.add("rejected_rows", {}, len(request.rejected))
        repaired = sum(INGEST_WARNINGS in write.fields for write in request.writes)
        counts.add("repaired_rows", {}, repaired)
    _write_rejected(cursor, requests)
    _write_comments(cursor, group)
    counts.write(cursor)


def _locked_rows(
    cursor: Cursor, objects: Mapping[ObjectRef, int], keys: Iterable[RowKey]
) -> dict[RowKey, StoredRow]:
    wanted = list(keys)
    cursor.execute(
        LOCK_ROWS, ([objects[key.object] for key in wanted], [key.id for key in wanted])
    )
    heads = {(object_no, seq): head for object_no, *head in cursor for seq in [head[1]]}
    if not heads:
        return {}
    cursor.execute(READ_ROWS, tuple(map(list, zip(*heads, strict=True))))
    refs = {object_no: where for where, object_no in objects.items()}
    stored: dict[RowKey, StoredRow] = {}
    for object_no, seq, *columns in cursor:
        row_id, _, content_xact, trigger_xact, was_scored = heads[object_no, seq]
        key = RowKey(refs[object_no], row_id)
        row, created_by = _stored_row(key, columns)
        stored[key] = StoredRow(
            row=row, seq=seq, content_xact=content_xact, trigger_xact=trigger_xact,
            was_scored=was_scored, created_by=created_by,
        )
    return stored


def _stored_row(key: RowKey, columns: list[Any]) -> tuple[Row, str | None]:
    cleared, has_base, is_deleted, state, extra, created_by, *values = columns
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
    row = Row(
        key=key, fields={**fields, **(extra or {})}, has_base=has_base, is_deleted=is_deleted,
        scoring_state=state,
    )
    return row, created_by


def _gather(cursor: Cursor, group: Group, request: IngestRequest, xact: Xact) -> IngestAnswer:
    """Apply the request's writes, in order, to the rows in memory. Return its answer."""
    for write in request.writes:
        if write.comment is not None:
            group.comments.append(_comment(write, xact))
            continue
        if write.parent_id is not None:
            write = _with_parent(cursor, group, write)  # noqa: PLW2901 the same write, completed
        group.rows.apply(write, xact, sent_by=write.audit_source or request.sent_by)
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
            "select span_id, root_span_id from span where object_no = %s and id = %s",
            (group.objects[write.key.object], parent_id),
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
        draft for draft in group.rows.changed.values()
        if draft.stored is not None
        and draft.trigger_xact is not None
        and draft.trigger_xact == draft.stored.trigger_xact
    ]
    if waiting:
        cursor.execute(KEEP_AT_END, group.keys_of(waiting))


def _keep_scored_content(cursor: Cursor, group: Group) -> None:
    """Keep what scorers may have read of rows, where this write changes it.

    They read rows that were queued for matching, and those that somebody has scored by hand.
    Their score spans show it. Upkeep deletes what no score span shows. A deleted row has no
    score spans any more, so nothing is kept of it.
    """
    changed = [
        draft for draft in group.rows.changed.values()
        if draft.stored is not None and not draft.was_deleted
        and (draft.stored.trigger_xact is not None or draft.stored.was_scored)
        and any(
            draft.stored.row.fields.get(name) != draft.row.fields.get(name)
            for name in SCORER_ARGUMENTS
        )
    ]
    if changed:
        _, seqs = group.keys_of(changed)
        cursor.execute(KEEP_CONTENT, (seqs, [one.xact for one in changed]))


def _by_object(
    group: Group, drafts: Iterable[Draft]
) -> Iterator[tuple[int, list[Draft]]]:
    """The drafts of each object, with its number."""
    by_object: dict[ObjectRef, list[Draft]] = {}
    for draft in drafts:
        by_object.setdefault(draft.row.key.object, []).append(draft)
    for where, of_object in by_object.items():
        yield group.objects[where], of_object


def _write_rows(
    cursor: Cursor, group: Group, seqs: Iterable[RowSeq], now: datetime
) -> None:
    """Write the rows that changed. New ones get their places from `seqs`, in order."""
    at = now.isoformat()
    place = iter(seqs)
    new: list[tuple[bytes, bytes]] = []
    changed: list[tuple[bytes, bytes]] = []
    deleted: list[Draft] = []
    stale: list[Draft] = []
    for key in sorted(group.rows.changed):
        draft = group.rows.changed[key]
        seq = group.places[key] = draft.stored.seq if draft.stored else next(place)
        object_no = group.objects[key.object]
        lines = (
            body_line(
                draft.row, object_no=object_no, seq=seq, created_by=draft.created_by
            ),
            head_line(
                draft.row, object_no=object_no, seq=seq, xact=draft.xact,
                content_xact=draft.content_xact, trigger_xact=draft.trigger_xact, now=at,
            ),
        )
        (new if draft.stored is None else changed).append(lines)
        if draft.was_deleted and draft.stored is not None:
            deleted.append(draft)
        elif draft.has_stale_scores:
            stale.append(draft)
    if new:
        copy_lines(cursor, COPY_BODIES, [body for body, _ in new])
        copy_lines(cursor, COPY_HEADS, [head for _, head in new])
        _write_entries(cursor, group)
    if changed:
        _keep_how_rows_ended(cursor, group)
        _keep_scored_content(cursor, group)
        copy_lines(cursor, STAGE_BODIES, [body for body, _ in changed])
        copy_lines(cursor, STAGE_HEADS, [head for _, head in changed])
        with changing_scores(cursor, _rescored(group)):
            cursor.execute(UPDATE_BODIES)
            cursor.execute(UPDATE_HEADS)
        _move_score_spans(cursor, group)
    for object_no, drafts in _by_object(group, deleted):
        gone = [group.places[draft.row.key] for draft in drafts]
        withdraw_scores(cursor, object_no, gone)
        cursor.execute(DELETE_OUTCOMES, (gone,))
        cursor.execute(DELETE_FORMER_CONTENT, ([object_no] * len(gone), gone))
    for object_no, drafts in _by_object(group, stale):
        withdraw_scores(cursor, object_no, [group.places[one.row.key] for one in drafts])


def _move_score_spans(cursor: Cursor, group: Group) -> None:
    """Move the score spans of rows that are in another trace now.

    A write that replaces a row may name another trace.
    """
    roots = {
        group.places[key]: span_ids(draft.row)[1]
        for key, draft in group.rows.changed.items()
        if draft.stored is not None and span_ids(draft.stored.row)[1] != span_ids(draft.row)[1]
    }
    if roots:
        cursor.execute(MOVE_SCORE_SPANS, (list(roots), list(roots.values())))


def _write_entries(cursor: Cursor, group: Group) -> None:
    """Write the entries of the scores of new rows."""
    entries: list[bytes] = []
    for key, draft in group.rows.changed.items():
        scores = draft.row.fields.get("scores")
        if draft.stored is None and isinstance(scores, dict):
            entries += entry_lines(
                scores, object_no=group.objects[key.object], seq=group.places[key]
            )
    if entries:
        copy_lines(cursor, COPY_SCORES, entries)


def _rescored(group: Group) -> list[tuple[int, RowSeq]]:
    """The stored rows, by object and place, whose logged scores the group changes."""
    return [
        (group.objects[key.object], group.places[key])
        for key, draft in group.rows.changed.items()
        if draft.stored is not None
        and draft.stored.row.fields.get("scores") != draft.row.fields.get("scores")
    ]


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
        """insert into outbox (object_no, xact, row_seqs, rescored)
           select object_no, xact, row_seqs, rescored
             from json_to_recordset(%s::json)
                  as t(object_no integer, xact bigint, row_seqs bigint[], rescored boolean)""",
        (
            orjson.dumps(
                [
                    {
                        "object_no": group.objects[where],
                        "xact": xact,
                        "row_seqs": [group.places[draft.row.key] for draft in drafts],
                        "rescored": any(d.stored and d.stored.was_scored for d in drafts),
                    }
                    for (where, xact), drafts in entries.items()
                ]
            ).decode(),
        ),
    )


def _write_rejected(cursor: Cursor, requests: Iterable[IngestRequest]) -> None:
    rows = [
        {
            "org": request.org_id, "project": row.project_id, "row": row.row_id,
            "span": row.span_id, "reason": row.reason, "excerpt": row.excerpt,
        }
        for request in requests
        for row in request.rejected
    ]
    if rows:
        cursor.executemany(REJECT, rows)


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
