"""Splits a row into a body and a head, names objects by numbers, and moves match records out.

The tables before this revision are renamed here; revision 0005 moves their rows.
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"

# Each name of an index or a constraint is unique in a schema, so the old ones make room.
RENAME_OLD = """
alter table span rename to span_0003;
alter table outcome rename to outcome_0003;
alter table outbox rename to outbox_0003;
alter table row_at_end rename to row_at_end_0003;
alter sequence outbox_seq_seq rename to outbox_0003_seq_seq;
alter table span_0003 alter column seq drop default;
do $$
declare one record;
begin
  for one in select indexrelid::regclass::text as name from pg_index
              where indrelid in ('span_0003'::regclass, 'outcome_0003'::regclass,
                                 'outbox_0003'::regclass, 'row_at_end_0003'::regclass)
  loop
    execute format('alter index %I rename to %I', one.name, one.name || '_0003');
  end loop;
end $$
"""

TABLES = """
-- An object that holds rows. Its number stands in every row and index in place of three columns.
create table object (
  object_no integer generated always as identity primary key,
  project_id uuid not null,
  object_type text not null,            -- project_logs | experiment | dataset | playground_logs
  object_id uuid not null,              -- for project_logs: the project's own id
  unique (project_id, object_type, object_id)
);

-- The body of a row: what clients logged. Only ingest changes it.
--
-- A score span is a row whose body says only which outcome it shows (`scored_*`): the view
-- `shown_span` makes the rest of it of that outcome when it is read.
create table span (
  seq bigint not null,                  -- of span_seq; never changes: what pages follow
  object_no integer not null,
  has_base boolean not null,            -- false: only merges have come so far
  is_root boolean not null,
  id text not null,
  span_id text not null,
  root_span_id text not null,
  created_by text,                      -- who wrote it first; null for a score span
  span_parents jsonb,
  input json,                           -- json keeps the order of keys: ExactMatch needs it
  output json,
  expected json,
  error jsonb,
  logged_scores jsonb,                  -- by clients and people
  metadata jsonb,
  metrics jsonb,
  tags jsonb,
  span_attributes jsonb,
  context jsonb,                        -- of a score span: what its outcome does not hold
  origin jsonb,
  facets jsonb,
  classifications jsonb,
  extra jsonb,                          -- fields that we do not know, given back as they came
  scoring_state jsonb,                  -- `_async_scoring_state`
  scored_seq bigint,                    -- of a score span: the row that it is about
  scored_xact bigint,                   -- that row's version when the scorer read it
  scored_use integer,                   -- with scored_seq and scored_version: its outcome's key
  scored_version bigint,                -- null once a client has written over the score span
  primary key (seq),
  unique (object_no, id)
) with (toast_tuple_target = 4080);     -- a span of 2 kB is stored as it is: compressing it
                                        -- takes as long as all else that its COPY does
-- A statement can use one of these indexes only if it states the index's condition. Without the
-- conditions, while a table is empty or an object has few rows, all indexes that begin with the
-- object would look alike to the planner, and it would keep a plan that looks for an id in the
-- index of another column. The condition on `span_id` holds for all rows. What clients wrote is
-- found by its trace, also over a score span. Other score spans are found by the row that they are
-- about, in whose trace they are: see `rows_of_trace`.
create index span_trace on span (object_no, root_span_id) where scored_version is null;
create index span_by_span_id on span (object_no, span_id) where span_id is not null;
create index span_scored on span (scored_seq) where scored_seq is not null;

-- The head of a row: what scoring changes. It is small, since each score writes it anew.
create table span_head (
  seq bigint not null,                  -- of the row's body
  object_no integer not null,
  xact bigint not null,                 -- the last write of any kind
  first_xact bigint not null,           -- the first write
  content_xact bigint not null,         -- the last that changed input, output, expected, error
  trigger_xact bigint,                  -- the last that queued it for matching
  created timestamptz not null,
  deleted_at timestamptz,
  computed_scores jsonb,                -- by scorers: {name: value}
  computed_by jsonb,                    -- {name: {use, version, generation}}: the current outcome
  primary key (object_no, seq)
) with (autovacuum_vacuum_scale_factor = 0.05);   -- every scored row leaves a dead head
create index span_head_deleted on span_head (deleted_at) where deleted_at is not null;
-- The conditions on `xact` and `created` hold for all rows. They keep these indexes from statements
-- that do not state them, so that a statement which finds rows by their places uses the key. The
-- last index has only the rows that were written again.
create index span_head_version on span_head (object_no, xact, seq) where xact > 0;
create index span_head_created on span_head (object_no, created, seq)
  where created > '-infinity';
create index span_head_first on span_head (object_no, first_xact, seq) where xact > first_xact;

-- The numbers among the scores of rows, by which rows are sorted. See store/postgres/score_index.
create table span_score (
  value double precision not null,
  seq bigint not null,                  -- of its row
  object_no integer not null,
  name_hash integer not null            -- of the score's name: rows have the name itself
);
create index span_score_order on span_score (object_no, name_hash, (seq >> 18), value, seq);

-- When readers began to page by places, and the version that they saw everything up to. What has
-- that version, or a lower one, has not moved away from them since.
create table fetch_start (
  object_no integer not null,
  asked bigint not null,                -- a hash of the limit and the filter, the same on all pages
  settled bigint not null,
  started_at timestamptz not null default now()
);
create index fetch_start_of_object on fetch_start (object_no, asked, started_at);
create index fetch_start_age on fetch_start (started_at);

-- What scorers read of a row, until version `until_xact` changed it. Kept while a score span
-- shows it.
create table former_content (
  object_no integer not null,
  seq bigint not null,
  until_xact bigint not null,
  created timestamptz not null default now(),
  input json,
  output json,
  expected json,
  metadata jsonb,
  tags jsonb,
  primary key (object_no, seq, until_xact)
);
create index former_content_age on former_content (created, seq, until_xact);

-- Who asks for a scorer: its number stands in every outcome in place of six columns.
create table scorer_use (
  use_no integer generated always as identity primary key,
  origin_kind text not null,            -- rule | rescore | manual
  origin_id uuid not null,
  role text not null,                   -- live | shadow | preview
  scorer_kind text not null,
  scorer text not null,
  scorer_version text not null,
  generation integer not null default 0,   -- of a re-score job: later ones replace earlier ones
  unique (origin_id, scorer, scorer_version, scorer_kind, origin_kind, role)
);
create index scorer_use_of_scorer on scorer_use (scorer, scorer_version);

-- The ledger, and the queue of what is to be scored. A repeated write hits the same key.
create table outcome (
  subject_seq bigint not null,          -- of a span: its row's seq
  subject_version bigint not null,      -- of a span: its content_xact
  fence bigint not null default 0,
  created timestamptz not null default now(),
  next_attempt_at timestamptz not null default now(),   -- while it is pending
  lease_until timestamptz,
  started_at timestamptz,
  finished_at timestamptz,
  prompt_tokens bigint,
  completion_tokens bigint,
  object_no integer not null,
  use_no integer not null,
  rules_revision integer,
  attempts integer not null default 0,  -- counted, and committed, before the work starts
  calls integer,
  run_ms real,
  priority smallint not null default 0, -- 0 live, 1 bulk: lower ones are claimed first
  deaths smallint not null default 0,   -- attempts that ended their worker, or in a bug
  is_lead boolean not null default true,  -- others with the same scorer and subject share its run
  skip_logging boolean not null default false,
  is_cached boolean not null default false,  -- the judge was not asked anew
  state text not null check (state in ('pending', 'completed', 'skipped', 'errored', 'superseded')),
  queue text not null,                  -- match | heavy | judge | sandbox
  role text not null,                   -- that of its scorer_use: indexes name it
  error_class text,
  error_message text,
  arguments text,                       -- the names of those that the scorer took, with commas
  label text,                           -- how its scorer is shown, where not by its name
  owner text,
  model text,
  log text,                             -- what the scorer wrote to stdout and stderr
  scores jsonb,                         -- [{name, score, metadata}]
  primary key (subject_seq, subject_version, use_no)
) with (autovacuum_vacuum_scale_factor = 0.02, vacuum_index_cleanup = on);   -- a claim reads over
                                        -- what was claimed since the last vacuum of outcome_due
create index outcome_due on outcome (queue, priority, object_no, next_attempt_at)
  where state = 'pending' and is_lead and owner is null and deaths = 0;
create index outcome_suspect on outcome (queue, deaths, next_attempt_at)
  where state = 'pending' and is_lead and owner is null and deaths > 0;
create index outcome_waiting on outcome (queue, created) where state = 'pending' and is_lead;
create index outcome_waiting_by_use on outcome (use_no) where state = 'pending';
create index outcome_held on outcome (owner) where state = 'pending' and owner is not null;
create index outcome_errored on outcome (object_no, finished_at) where state = 'errored';
create index outcome_of_shadow on outcome (use_no, finished_at)
  where role = 'shadow' and finished_at is not null;

-- What waits to be matched: one entry for each write and object.
create table outbox (
  seq bigint generated always as identity primary key,
  xact bigint not null,
  fence bigint not null default 0,
  created timestamptz not null default now(),
  lease_until timestamptz,
  object_no integer not null,
  attempts integer not null default 0,  -- counted, and committed, before the work starts
  deaths smallint not null default 0,   -- attempts that ended their worker, or in a bug
  rescored boolean not null,            -- some of the rows were matched before, with other content
  owner text,
  row_seqs bigint[] not null
) with (autovacuum_vacuum_scale_factor = 0.05);   -- every entry is deleted soon
create index outbox_by_xact on outbox (object_no, xact);
create index outbox_suspect on outbox (seq) where deaths > 0;
create index outbox_held on outbox (owner) where owner is not null;

-- What matching decided on an entry, kept for `explain`.
create table match_record (
  xact bigint not null,
  created timestamptz not null,         -- of its entry
  matched_at timestamptz not null default now(),
  object_no integer not null,
  rules_revision integer not null,
  attempts integer not null,
  row_seqs bigint[] not null,
  reasons bytea not null                -- one byte for each (row, rule of that revision), by row
) partition by range (matched_at);
create index match_record_by_xact on match_record (object_no, xact);
create table match_record_rest partition of match_record default;   -- for days that have none
create index match_record_rest_age on match_record_rest (matched_at);

create index project_deleted on project (deleted_at) where deleted_at is not null;

-- How a row was when its span ended, kept if another write changed the row before it was matched.
-- The filters of rules see the row as it was then.
create table row_at_end (
  object_no integer not null,
  seq bigint not null,
  trigger_xact bigint not null,
  view jsonb not null,                  -- the columns that filters read, in the API's form
  primary key (object_no, trigger_xact, seq)
);
"""

# ANALYZE reads 300 rows for each point of the highest target, and these tables are analyzed every
# time that they have grown by a tenth. With the default of 100 it read 30 000 rows of 2 kB, which
# took 0.3 s of processor time and 100 MB. No statement depends on more than the rough shape of the
# keys, and none on what JSON columns hold.
STATISTICS = """
do $$
declare one record;
begin
  for one in
    select attrelid::regclass as name, attname, atttypid in ('json'::regtype, 'jsonb'::regtype)
           as is_json
      from pg_attribute
     where attnum > 0
       and attrelid in ('span'::regclass, 'span_head'::regclass, 'outcome'::regclass)
  loop
    execute format('alter table %s alter column %I set statistics %s', one.name, one.attname,
                   case when one.is_json then 0 else 10 end);
  end loop;
end $$
"""

# `derived_id` of spans/ids.py: the first 128 bits of SHA-256 over the parts, NUL between them.
FUNCTIONS = """
create function derived_id(parts text[]) returns uuid immutable strict parallel safe language sql
return encode(
  substring(
    sha256(decode(
      (select string_agg(encode(convert_to(part, 'UTF8'), 'hex'), '00' order by place)
         from unnest(parts) with ordinality as t(part, place)), 'hex')) for 16), 'hex')::uuid;

create function score_name_hash(name text) returns integer immutable strict parallel safe
language sql return
  ('x' || encode(substring(sha256(convert_to(name, 'UTF8')) for 4), 'hex'))::bit(32)::integer;

-- The places of a trace's rows in one object, by the object's number and the root span id: the
-- rows that clients wrote by their index, then the score spans of each.
create function rows_of_trace(integer, text) returns setof bigint stable parallel safe
language sql as $$
  select seq from span where object_no = $1 and root_span_id = $2 and scored_version is null
   union all
  select score_span.seq
    from (select seq from span
           where object_no = $1 and root_span_id = $2 and scored_version is null offset 0) logged
   cross join lateral (
     select seq, scored_version from span where span.scored_seq = logged.seq
     offset 0) score_span
   where score_span.scored_version is not null
$$;

create function score_span_output(scores jsonb) returns json immutable strict parallel safe
language sql return case
  when jsonb_array_length(scores) = 1
    then json_build_object('score', scores -> 0 -> 'score')
  else (select json_object_agg(one ->> 'name', json_build_object('score', one -> 'score'))
          from jsonb_array_elements(scores) one)
end;

create function score_span_metadata(scores jsonb) returns jsonb immutable strict parallel safe
language sql return case
  when jsonb_array_length(scores) = 1 then nullif(scores -> 0 -> 'metadata', '{}')
  else (select jsonb_object_agg(one ->> 'name', one -> 'metadata')
          from jsonb_array_elements(scores) one where one -> 'metadata' <> '{}')
end;

create function score_span_metrics(
  started_at timestamptz, run_ms real, calls integer, prompt_tokens bigint,
  completion_tokens bigint
) returns jsonb immutable parallel safe language sql return
  jsonb_build_object(
    'start', extract(epoch from started_at),
    'end', extract(epoch from started_at) + (run_ms / 1000)::numeric)
  || case when calls > 0 then jsonb_build_object(
       'prompt_tokens', prompt_tokens, 'completion_tokens', completion_tokens,
       'tokens', prompt_tokens + completion_tokens) else '{}' end;

-- The arguments that a scorer took of a row, by their names. Other names than those of columns
-- are keys of the metadata.
create function scorer_arguments(
  names text, id text, input json, output json, expected json, metadata jsonb, tags jsonb
) returns json immutable parallel safe language sql return (
  select json_object_agg(name, case name
           when 'input' then input
           when 'output' then output
           when 'expected' then expected
           when 'metadata' then metadata::json
           when 'tags' then tags::json
           when 'id' then to_json(id)
           else (metadata -> name)::json end order by place)
    from string_to_table(names, ',') with ordinality as t(name, place));
"""

# What is found by a number is a subselect and no join: of a join with a table of few rows the
# planner makes a scan, and keeps it when the rows are many.
VIEWS = """
-- Rows as clients logged them. Score spans are here with what their bodies hold, which is little.
create view logged_span as
select head.object_no, head.seq,
       (select project_id from object where object.object_no = head.object_no) as project_id,
       (select object_type from object where object.object_no = head.object_no) as object_type,
       (select object_id from object where object.object_no = head.object_no) as object_id,
       span.id, head.xact, head.first_xact, head.content_xact, head.trigger_xact, head.created,
       head.deleted_at,
       span.has_base, span.span_id, span.root_span_id, span.span_parents, span.is_root,
       span.created_by, span.input, span.output, span.expected, span.error, span.logged_scores,
       head.computed_scores, head.computed_by,
       case when head.computed_scores is null then span.logged_scores
            else coalesce(nullif(span.logged_scores, 'null'), '{}') || head.computed_scores
                 || jsonb_strip_nulls(coalesce(nullif(span.logged_scores, 'null'), '{}'))
            end as scores,
       span.metadata, span.metrics, span.tags, span.span_attributes, span.context, span.origin,
       span.facets, span.classifications, span.extra, span.scoring_state, span.scored_seq
  from span_head head
  join span on span.seq = head.seq;

-- Rows as readers see them: score spans whole.
create view shown_span as
select head.object_no, head.seq,
       (select project_id from object where object.object_no = head.object_no) as project_id,
       (select object_type from object where object.object_no = head.object_no) as object_type,
       (select object_id from object where object.object_no = head.object_no) as object_id,
       span.id, head.xact, head.first_xact, head.content_xact, head.trigger_xact, head.created,
       head.deleted_at,
       span.has_base, span.span_id, span.root_span_id,
       case when span.scored_version is null then span.span_parents
            else (select jsonb_build_array(scored.span_id) from span scored
                   where scored.seq = span.scored_seq)
            end as span_parents,
       span.is_root,
       case when span.scored_version is null then span.created_by
            else (select origin_kind || ' ' || origin_id from scorer_use
                   where scorer_use.use_no = span.scored_use) end as created_by,
       case when span.scored_version is null then span.input
            else coalesce(span.input, (
              select scorer_arguments(
                       outcome.arguments, scored.id,
                       case when former.seq is null then scored.input else former.input end,
                       case when former.seq is null then scored.output else former.output end,
                       case when former.seq is null then scored.expected
                            else former.expected end,
                       case when former.seq is null then scored.metadata
                            else former.metadata end,
                       case when former.seq is null then scored.tags else former.tags end)
                from span scored
                left join lateral (
                  select * from former_content
                   where former_content.object_no = span.object_no
                     and former_content.seq = span.scored_seq
                     and former_content.until_xact > span.scored_xact
                   order by until_xact limit 1) former on true
               where scored.seq = span.scored_seq))
            end as input,
       case when span.scored_version is null then span.output
            else score_span_output(outcome.scores) end as output,
       span.expected,
       case when span.scored_version is null then span.error
            else to_jsonb(outcome.error_class || ': ' || outcome.error_message) end as error,
       span.logged_scores, head.computed_scores, head.computed_by,
       case when head.computed_scores is null then span.logged_scores
            else coalesce(nullif(span.logged_scores, 'null'), '{}') || head.computed_scores
                 || jsonb_strip_nulls(coalesce(nullif(span.logged_scores, 'null'), '{}'))
            end as scores,
       case when span.scored_version is null then span.metadata
            else score_span_metadata(outcome.scores) end as metadata,
       case when span.scored_version is null then span.metrics
            else score_span_metrics(outcome.started_at, outcome.run_ms, outcome.calls,
                                    outcome.prompt_tokens, outcome.completion_tokens)
            end as metrics,
       span.tags,
       case when span.scored_version is null then span.span_attributes
            else jsonb_build_object(
              'name', coalesce(outcome.label, (
                select scorer from scorer_use where scorer_use.use_no = span.scored_use)),
              'type', 'score', 'purpose', 'scorer')
            end as span_attributes,
       case when span.scored_version is null then span.context
            else (
              select jsonb_build_object(
                case origin_kind when 'rule' then 'rule_id' when 'rescore' then 'rescore_job_id'
                  else 'request_id' end, origin_id,
                'outcome_id', derived_id(array[
                  replace((select object_id from object
                            where object.object_no = head.object_no)::text, '-', ''),
                  'span', (select scored.id from span scored
                            where scored.seq = span.scored_seq),
                  span.scored_version::text, origin_kind, replace(origin_id::text, '-', ''),
                  role, scorer_kind, scorer, scorer_version]),
                'scorer', scorer, 'scorer_version', scorer_version)
                from scorer_use where scorer_use.use_no = span.scored_use)
              || coalesce(span.context, '{}') end as context,
       case when span.scored_version is null then span.origin
            else (
              select jsonb_build_object(
                'object_type', object_type, 'object_id', object_id,
                'id', (select scored.id from span scored where scored.seq = span.scored_seq),
                '_xact_id', span.scored_version::text)
                from object where object.object_no = head.object_no)
            end as origin,
       span.facets, span.classifications, span.extra, span.scoring_state, span.scored_seq
  from span_head head
  join span on span.seq = head.seq
  left join outcome on outcome.subject_seq = span.scored_seq
   and outcome.subject_version = span.scored_version and outcome.use_no = span.scored_use;

-- Outcomes with their names in place of numbers, for people and for reports.
create view shown_outcome as
select object.project_id, object.object_type, object.object_id, span.id as subject_id,
       scorer_use.origin_kind, scorer_use.origin_id, scorer_use.scorer_kind, scorer_use.scorer,
       scorer_use.scorer_version, outcome.*
  from outcome
  join object on object.object_no = outcome.object_no
  join scorer_use on scorer_use.use_no = outcome.use_no
  left join span on span.seq = outcome.subject_seq;
"""


def upgrade() -> None:
    op.execute(RENAME_OLD)
    op.execute(TABLES)
    op.execute(STATISTICS)
    op.execute(FUNCTIONS)
    op.execute(VIEWS)


def downgrade() -> None:
    raise RuntimeError("0004 holds users' rows: restore a backup instead")
