"""Moves rows, outcomes and outbox entries into the tables of revision 0004.

Rows move in the order in which they came, some thousands in each transaction, with their
outcomes; then outbox entries. `moved_0005` says how far it has come, so after a kill the next
run goes on from there. The old tables are dropped in the transaction that sets the revision.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from alembic import context, op

revision = "0005"
down_revision = "0004"

ROWS_PER_STEP = 2000
"""Rows that one transaction moves: about 5 MB, so a kill costs less than a second of work."""

ENTRIES_PER_STEP = 200
"""Outbox entries that one transaction moves. Each names up to 1000 rows."""

TELL_EVERY_S = 10.0

# Rows are moved in the order of `seq`, and a score span must be found by its id alone, since a
# client may have written over all else.
PREPARE = """
create index if not exists span_0003_seq on span_0003 (seq);
create index if not exists outcome_0003_score_span on outcome_0003 (score_span_id);
create table if not exists moved_0005 (
  what text primary key,                -- rows | entries
  upto bigint not null,                 -- the last `seq` that was moved
  last bigint not null,                 -- the last `seq` that is to be moved
  moved bigint not null,
  total bigint not null
);
insert into moved_0005
select 'rows', 0, coalesce(max(seq), 0), 0, count(*) from span_0003
on conflict do nothing;
insert into moved_0005
select 'entries', 0, coalesce(max(seq), 0), 0, count(*) from outbox_0003
on conflict do nothing;
insert into scorer_use (origin_kind, origin_id, role, scorer_kind, scorer, scorer_version)
select distinct origin_kind, origin_id, role, scorer_kind, scorer, scorer_version
  from outcome_0003 order by 1, 2, 3, 4, 5, 6
on conflict do nothing;
-- A partition for each day that has match records, and for those of the next week. Upkeep makes
-- those of later days.
do $$
declare
  today date := (now() at time zone 'utc')::date;
  oldest date := greatest(today - 400, least(
    today, (select (min(matched_at) at time zone 'utc')::date from outbox_0003)));
  day date;
begin
  for day in select * from generate_series(oldest, today + 7, interval '1 day') loop
    if to_regclass('match_record_' || to_char(day, 'YYYYMMDD')) is null then
      execute format(
        'create table match_record_%s partition of match_record for values from (%L) to (%L)',
        to_char(day, 'YYYYMMDD'), day || ' 00:00+00', day + 1 || ' 00:00+00');
    end if;
  end loop;
end $$;
select setval('outbox_seq_seq', greatest(1, (select last_value from outbox_0003_seq_seq)));
"""

FUNCTIONS = r"""
-- The names of a score span's arguments, if the scored row still holds each of them as it was;
-- else null, and then the score span keeps its arguments. Whatever a client has written into a
-- score span, it raises no error.
create or replace function moved_arguments(arguments json, scored span_0003) returns text
immutable language plpgsql as $$
begin
  if arguments is null or json_typeof(arguments) <> 'object' then
    return null;
  end if;
  return (
    select case when bool_and(
             name not like '%,%' and case name
               when 'input' then value::text = coalesce(scored.input::text, 'null')
               when 'output' then value::text = coalesce(scored.output::text, 'null')
               when 'expected' then value::text = coalesce(scored.expected::text, 'null')
               when 'metadata' then value::jsonb = coalesce(scored.metadata, 'null')
               when 'tags' then value::jsonb = coalesce(scored.tags, 'null')
               when 'id' then value::text = to_json(scored.id)::text
               else value::jsonb = coalesce(scored.metadata -> name, 'null') end)
           then string_agg(name, ',' order by place) end
      from json_each(arguments) with ordinality as t(name, value, place));
exception when data_exception or program_limit_exceeded then
  return null;
end $$;

-- Whether times agree to the millisecond. An outcome keeps its times less exactly than the
-- score span of revision 0003 did.
create or replace function moved_is_near(a jsonb, b jsonb) returns boolean
immutable language sql return
  jsonb_typeof(a) = 'number' and jsonb_typeof(b) = 'number'
  and abs(a::numeric - b::numeric) < 0.001;

-- Whether the view `shown_span` makes the same of the outcome as the score span has.
create or replace function moved_is_shown(one span_0003, made outcome, use scorer_use,
                                          scored span_0003)
returns boolean immutable language plpgsql as $$
declare metrics jsonb := score_span_metrics(made.started_at, made.run_ms, made.calls,
                                            made.prompt_tokens, made.completion_tokens);
begin
  return coalesce(
    one.has_base and not one.is_root and one.deleted_at is null
    and one.root_span_id = scored.root_span_id
    and one.computed_scores is null
    and one.expected is null and one.tags is null and one.facets is null
    and one.classifications is null and one.extra is null and one.scoring_state is null
    and one.span_parents = jsonb_build_array(scored.span_id)
    and one.output::jsonb is not distinct from score_span_output(made.scores)::jsonb
    and one.error is not distinct from
        to_jsonb(made.error_class || ': ' || made.error_message)
    and one.logged_scores is not distinct from (
          select jsonb_object_agg(score ->> 'name', score -> 'score')
            from jsonb_array_elements(made.scores) score)
    and one.metadata is not distinct from score_span_metadata(made.scores)
    and one.metrics - 'start' - 'end' = metrics - 'start' - 'end'
    and moved_is_near(one.metrics -> 'start', metrics -> 'start')
    and moved_is_near(one.metrics -> 'end', metrics -> 'end')
    and one.span_attributes = jsonb_build_object(
          'name', coalesce(made.label, use.scorer), 'type', 'score', 'purpose', 'scorer')
    and one.context - 'outcome_id' - 'prompt' = jsonb_build_object(
          case use.origin_kind when 'rule' then 'rule_id'
            when 'rescore' then 'rescore_job_id' else 'request_id' end, use.origin_id,
          'scorer', use.scorer, 'scorer_version', use.scorer_version)
    and one.origin = jsonb_build_object(
          'object_type', one.object_type, 'object_id', one.object_id, 'id', scored.id,
          '_xact_id', made.subject_version::text), false);
exception when data_exception or program_limit_exceeded then
  return false;
end $$;
"""

# Everything below is for the rows with `seq` in (%(after)s, %(upto)s]. Each other row is found by
# its whole key, one by one: `offset 0` keeps the planner from any other order of the joins.
OBJECT = """
 cross join lateral (
   select object_no from object
    where object.project_id = {row}.project_id and object.object_type = {row}.object_type
      and object.object_id = {row}.object_id offset 0) object
"""
USE = """
 cross join lateral (
   select scorer_use as whole, use_no from scorer_use
    where scorer_use.origin_id = old.origin_id and scorer_use.scorer = old.scorer
      and scorer_use.scorer_version = old.scorer_version
      and scorer_use.scorer_kind = old.scorer_kind
      and scorer_use.origin_kind = old.origin_kind and scorer_use.role = old.role
   offset 0) use
"""
ROW = """(
   select span_0003 as whole, seq, span_0003.id, input, context from span_0003
    where span_0003.project_id = {row}.project_id and span_0003.object_type = {row}.object_type
      and span_0003.object_id = {row}.object_id and span_0003.id = {id} offset 0)
"""

OBJECTS = """
insert into object (project_id, object_type, object_id)
select distinct project_id, object_type, object_id from span_0003 old
 where seq > %(after)s and seq <= %(upto)s
   and not exists (
     select from object where object.project_id = old.project_id
        and object.object_type = old.object_type and object.object_id = old.object_id)
"""

OUTCOME_COLUMNS = (
    "subject_version", "fence", "created", "next_attempt_at", "lease_until", "started_at",
    "finished_at", "prompt_tokens", "completion_tokens", "rules_revision", "attempts", "calls",
    "run_ms", "deaths", "is_lead", "skip_logging", "is_cached", "state", "queue", "role",
    "error_class", "error_message", "label", "owner", "model", "log", "scores",
)
OUTCOMES = f"""
insert into outcome (subject_seq, object_no, use_no, arguments, {", ".join(OUTCOME_COLUMNS)})
select scored.seq, object.object_no, use.use_no,
       case when one.context ->> 'outcome_id' = old.id::text
            then moved_arguments(one.input, scored) end,
       {", ".join(f"old.{name}" for name in OUTCOME_COLUMNS)}
  from span_0003 scored
  {OBJECT.format(row="scored")}
 cross join lateral (
   select * from outcome_0003
    where outcome_0003.project_id = scored.project_id
      and outcome_0003.object_id = scored.object_id
      and outcome_0003.subject_id = scored.id
      and outcome_0003.object_type = scored.object_type offset 0) old
  {USE}
  left join lateral {ROW.format(row="scored", id="old.score_span_id::text")} one on true
 where scored.seq > %(after)s and scored.seq <= %(upto)s
"""

# A row whose id is that of an outcome's score span is that score span: also if a client has
# written over it, for a new outcome replaces it. Only one that the outcome shows as it is
# becomes slim (`is_slim`). Its outcome has moved: what is scored came before its score span.
# `of_id` looks for the id alone: given the object too, the planner may read all outcomes of the
# object for each row, since the index that begins with the object looks as good to it.
SCORE_SPANS = f"""
create temporary table score_span_0005 on commit drop as
select one.seq, made.subject_seq, made.subject_version, made.use_no,
       made.arguments is not null as has_arguments,
       one.context ->> 'outcome_id' = old.id::text
         and moved_is_shown(one, made.whole, use.whole, scored.whole) is true as is_slim
  from span_0003 one
 cross join lateral (
   select * from (
     select * from outcome_0003
      where score_span_id = case
              when one.id ~ '^[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$'
              then one.id::uuid end offset 0) of_id
    where project_id = one.project_id and object_type = one.object_type
      and object_id = one.object_id
    order by id::text is not distinct from one.context ->> 'outcome_id' desc, created desc
    limit 1) old
 cross join lateral {ROW.format(row="one", id="old.subject_id")} scored
  {USE}
 cross join lateral (
   select outcome as whole, subject_seq, subject_version, use_no, arguments from outcome
    where outcome.subject_seq = scored.seq and outcome.subject_version = old.subject_version
      and outcome.use_no = use.use_no offset 0) made
 where one.seq > %(after)s and one.seq <= %(upto)s;
create unique index on score_span_0005 (seq)
"""

# The columns that `shown_span` makes of the outcome.
MADE = ("span_parents", "output", "error", "logged_scores", "metadata", "metrics",
        "span_attributes", "origin")
KEPT = ("expected", "tags", "facets", "classifications", "extra", "scoring_state")
BODIES = f"""
insert into span (object_no, seq, has_base, is_root, id, span_id, root_span_id,
                  {", ".join(MADE)}, {", ".join(KEPT)}, input, context,
                  scored_seq, scored_xact, scored_use, scored_version)
select object.object_no, one.seq, has_base, is_root, id, span_id, root_span_id,
       {", ".join(f"case when is_slim is true then null else {name} end" for name in MADE)},
       {", ".join(KEPT)},
       case when is_slim is true and has_arguments then null else input end,
       case when is_slim is not true then context
            when context ? 'prompt' then jsonb_build_object('prompt', context -> 'prompt') end,
       shows.subject_seq, case when is_slim is true then shows.subject_version end,
       shows.use_no, case when is_slim is true then shows.subject_version end
  from span_0003 one
  {OBJECT.format(row="one")}
  left join lateral (
    select * from score_span_0005 where score_span_0005.seq = one.seq offset 0) shows on true
 where one.seq > %(after)s and one.seq <= %(upto)s
 order by one.seq
"""
HEADS = f"""
insert into span_head (object_no, seq, xact, first_xact, content_xact, trigger_xact, created,
                       deleted_at, computed_scores, computed_by)
select object.object_no, one.seq, xact, least(content_xact, trigger_xact), content_xact,
       trigger_xact, created, deleted_at,
       case when is_slim is true then logged_scores else computed_scores end,
       (select jsonb_object_agg(name, jsonb_build_object(
                 'use', use.use_no, 'version', old.subject_version,
                 'generation', coalesce(who -> 'generation', '0')))
          from jsonb_each(one.computed_by) as t(name, who)
         cross join lateral (
           select * from outcome_0003 where id = (who ->> 'outcome')::uuid offset 0) old
         {USE})
  from span_0003 one
  {OBJECT.format(row="one")}
  left join lateral (
    select * from score_span_0005 where score_span_0005.seq = one.seq offset 0) shows on true
 where one.seq > %(after)s and one.seq <= %(upto)s
 order by one.seq
"""
ROWS_AT_END = f"""
insert into row_at_end (object_no, seq, trigger_xact, view)
select object.object_no, one.seq, old.trigger_xact, old.view
  from span_0003 one
  {OBJECT.format(row="one")}
 cross join lateral (
   select * from row_at_end_0003
    where row_at_end_0003.project_id = one.project_id
      and row_at_end_0003.object_id = one.object_id
      and row_at_end_0003.row_id = one.id offset 0) old
 where one.seq > %(after)s and one.seq <= %(upto)s
"""
SCORES = """
insert into span_score (object_no, name_hash, value, seq)
select head.object_no, score_name_hash(one.name), one.value::double precision, head.seq
  from generate_series(%(after)s + 1, %(upto)s) as moved(seq)
 cross join lateral (
   select seq, object_no, logged_scores from span where span.seq = moved.seq offset 0) body
 cross join lateral (
   select object_no, seq, computed_scores from span_head
    where span_head.object_no = body.object_no and span_head.seq = body.seq offset 0) head
 cross join lateral (
   select key as name, value
     from jsonb_each(case when jsonb_typeof(body.logged_scores) = 'object'
                          then body.logged_scores end)
   union all
   select key, value from jsonb_each(head.computed_scores)) one
 where jsonb_typeof(one.value) = 'number'
"""
ROW_STEPS = (OBJECTS, OUTCOMES, SCORE_SPANS, BODIES, HEADS, SCORES, ROWS_AT_END)

# A row that is gone has the place 0 in an entry, which no row has: the place of the others
# among the reasons stays.
ENTRIES = f"""
create temporary table entry_0005 on commit drop as
select old.*, object_no, (
         select coalesce(array_agg(coalesce(found.seq, 0) order by place), '{{}}')
           from unnest(old.row_ids) with ordinality as asked(id, place)
           left join lateral (
             select seq from span
              where span.object_no = object.object_no and span.id = asked.id offset 0) found
             on true) as row_seqs
  from outbox_0003 old
  {OBJECT.format(row="old")}
 where old.seq > %(after)s and old.seq <= %(upto)s;
insert into outbox (seq, xact, fence, created, lease_until, object_no, attempts, deaths,
                    rescored, owner, row_seqs)
overriding system value
select seq, xact, fence, created, lease_until, object_no, attempts, deaths, rescored, owner,
       row_seqs
  from entry_0005 where matched_at is null;
insert into match_record (xact, created, matched_at, object_no, rules_revision, attempts,
                          row_seqs, reasons)
select xact, created, matched_at, object_no, rules_revision, attempts, row_seqs, reasons
  from entry_0005 where matched_at is not null
"""
ENTRY_STEPS = (ENTRIES,)

END = """
drop function moved_arguments(json, span_0003);
drop function moved_is_shown(span_0003, outcome, scorer_use, span_0003);
drop function moved_is_near(jsonb, jsonb);
drop table moved_0005, span_0003, outcome_0003, outbox_0003, row_at_end_0003
"""

# Each statement of a step finds its rows by key. Without these settings the planner may read a
# table of millions of rows for each step, since it knows nothing yet of the new tables.
BY_KEY = "".join(
    f"set enable_{plan} = off;" for plan in ("seqscan", "hashjoin", "mergejoin", "bitmapscan")
)
Connection = psycopg.Connection[Any]


def upgrade() -> None:
    with _own_transactions() as connection:
        with connection.transaction():
            connection.execute(PREPARE.encode())
            connection.execute(FUNCTIONS.encode())
        _move(connection, "rows", "span_0003", ROW_STEPS, ROWS_PER_STEP)
        _move(connection, "entries", "outbox_0003", ENTRY_STEPS, ENTRIES_PER_STEP)
        connection.execute(b"analyze object, span, span_head, outcome, match_record")
    op.execute(END)


@contextmanager
def _own_transactions() -> Iterator[Connection]:
    """The connection, on which each statement or `transaction` block commits.

    It stays the same connection, so the lock that keeps other migrations away stays held.
    """
    with op.get_context().autocommit_block():
        connection = op.get_bind().connection.driver_connection
        assert isinstance(connection, psycopg.Connection)  # noqa: S101 for the type checker
        connection.execute(BY_KEY.encode())
        yield connection
        connection.execute(b"reset all")


def _move(
    connection: Connection, what: str, table: str, statements: tuple[str, ...], size: int
) -> None:
    """Move what `moved_0005` says is left of `table`, in pieces of `size`."""
    say: Callable[[str], None] = context.config.attributes.get("say", lambda _: None)
    where = connection.execute(
        "select upto, last, moved, total from moved_0005 where what = %s", (what,)
    ).fetchone()
    assert where is not None  # noqa: S101 PREPARE has put it there
    upto, last, moved, total = where
    if upto >= last:
        return
    say(
        f"Moving {total:,} {NOUNS[what]} to the new tables"
        + (f", of which {moved:,} have moved already ..." if moved else " ...")
    )
    began_s = told_s = time.monotonic()
    before = moved
    while upto < last:
        upto, count = _move_piece(connection, what, table, statements, (upto, size))
        moved += count
        now_s = time.monotonic()
        if now_s - told_s > TELL_EVERY_S or upto >= last:
            rate = (moved - before) / max(now_s - began_s, 0.001)
            say(f"  {moved:,} of {total:,} ({rate:,.0f}/s)")
            told_s = now_s


NOUNS = {"rows": "rows", "entries": "records of matching"}


def _move_piece(
    connection: Connection, what: str, table: str, statements: tuple[str, ...],
    piece: tuple[int, int],
) -> tuple[int, int]:
    """Move the next piece in one transaction. Returns its last `seq` and how many it had."""
    after, size = piece
    with connection.transaction():
        found = connection.execute(
            f"""select max(seq), count(*) from (
                  select seq from {table} where seq > %s order by seq limit %s) piece""".encode(),
            (after, size),
        ).fetchone()
        assert found is not None  # noqa: S101 an aggregate gives one row
        upto, count = int(found[0]), int(found[1])
        # psycopg takes parameters only for single statements; both values are numbers.
        for statement in statements:
            connection.execute((statement % {"after": after, "upto": upto}).encode())
        connection.execute(
            "update moved_0005 set upto = %s, moved = moved + %s where what = %s",
            (upto, count, what),
        )
    return upto, count


def downgrade() -> None:
    raise RuntimeError("0005 has dropped the old tables: restore a backup instead")
