"""Creates projects, keys, rules, spans, the outbox and the ledger of outcomes."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

# Versions start at 0x0DE1 << 48 | unix seconds << 16. They have 19 decimal digits for the next
# centuries, so that they compare as strings as they do as numbers: clients take max() over the
# strings.
XACT_SEQUENCE = """
do $$ begin
  execute format('create sequence xact_seq as bigint start %s',
                 (3553::bigint << 48) | (extract(epoch from now())::bigint << 16));
  -- The first nextval would return `last_value` itself. From now on each returns a higher one.
  -- A nextval in this transaction would do that too. But with wal_level = minimal the sequence
  -- would count as logged 32 values ahead, and a crash would have them given twice.
  perform setval('xact_seq', (select last_value from xact_seq));
end $$
"""

TABLES = """
create table organization (
  id uuid primary key,
  name text not null unique,
  created timestamptz not null default now()
);

create table project (
  id uuid primary key,
  org_id uuid not null references organization,
  name text not null,
  description text,
  settings jsonb,
  created timestamptz not null default now(),
  deleted_at timestamptz,               -- hidden at once; `upkeep` removes its rows in pieces
  rules_revision integer not null default 0
);
create unique index project_name on project (org_id, name) where deleted_at is null;

create table api_key (
  id text primary key,                  -- the public part of the key
  org_id uuid not null references organization,
  project_id uuid references project on delete cascade,   -- null: every project
  name text not null,
  role text not null check (role in ('ingest', 'read', 'admin')),
  secret_sha256 bytea not null,         -- 256 random bits need no slow hash
  created timestamptz not null default now(),
  last_used_at timestamptz,
  revoked_at timestamptz
);

create table project_score (
  id uuid primary key,
  project_id uuid not null references project on delete cascade,
  name text not null,
  description text,
  score_type text not null,             -- 'online' is a rule; the others are only kept
  categories jsonb,
  config jsonb,
  position text,
  created timestamptz not null default now(),
  unique (project_id, name)
);

-- One row per change of a project's rules: what a match record points to, for `explain`.
create table rule_set (
  project_id uuid not null references project on delete cascade,
  revision integer not null,
  rules jsonb not null,
  created timestamptz not null default now(),
  primary key (project_id, revision)
);

create sequence span_seq as bigint;

create table span (
  project_id uuid not null,
  object_type text not null,            -- project_logs | experiment | dataset | playground_logs
  object_id uuid not null,              -- for project_logs: the project's own id
  id text not null,
  seq bigint not null default nextval('span_seq'),  -- never changes: what pages follow
  xact bigint not null,                 -- the last write of any kind
  content_xact bigint not null,         -- the last that changed input, output, expected, error
  trigger_xact bigint,                  -- the last that queued it for matching
  has_base boolean not null,            -- false: only merges have come so far
  deleted_at timestamptz,
  span_id text not null,
  root_span_id text not null,
  span_parents jsonb,
  is_root boolean not null,
  created timestamptz not null,
  input json,                           -- json keeps the order of keys: ExactMatch needs it
  output json,
  expected json,
  error jsonb,
  logged_scores jsonb,                  -- by clients and people
  computed_scores jsonb,                -- by scorers: {name: value}
  computed_by jsonb,                    -- {name: {outcome, rule, scorer, generation}}
  scores jsonb generated always as (
    case when computed_scores is null then logged_scores
         else coalesce(logged_scores, '{}') || computed_scores
              || jsonb_strip_nulls(coalesce(logged_scores, '{}')) end
  ) stored,                             -- a logged value wins over a computed one
  metadata jsonb,
  metrics jsonb,
  tags jsonb,
  span_attributes jsonb,
  context jsonb,
  origin jsonb,
  facets jsonb,
  classifications jsonb,
  extra jsonb,                          -- fields that we do not know, given back as they came
  scoring_state jsonb,                  -- `_async_scoring_state`
  primary key (project_id, object_type, object_id, id)
) with (toast_tuple_target = 4080);     -- a span of 2 kB is stored as it is: compressing it
                                        -- takes as long as all else that its COPY does
-- The conditions of these indexes are true for every row. The planner uses such an index only for
-- a query that has the condition or implies it, so it finds rows by their key over the primary key.
create index span_page on span (project_id, object_id, seq) where seq > 0;
create index span_version on span (project_id, xact) where xact > 0;
create index span_trace on span (project_id, root_span_id) where root_span_id > '';
create index span_by_span_id on span (project_id, span_id) where span_id > '';

-- Without statistics on these columns. By them the planner would believe that a new project has
-- no rows, and would read all of its rows over the smallest index to find one by its id. Without
-- them it uses the primary key.
alter table span alter column project_id set statistics 0;
alter table span alter column object_type set statistics 0;
alter table span alter column object_id set statistics 0;

create table outbox (
  seq bigint generated always as identity primary key,
  project_id uuid not null,
  object_type text not null,
  object_id uuid not null,
  xact bigint not null,
  row_ids text[] not null,
  rescored boolean not null,            -- some of the rows were matched before, with other content
  created timestamptz not null default now(),
  attempts integer not null default 0,  -- counted, and committed, before the work starts
  deaths smallint not null default 0,   -- attempts that ended their worker, or in a bug
  lease_until timestamptz,
  owner text,
  fence bigint not null default 0,
  -- From here on it is the match record: what was decided, kept for `explain`.
  matched_at timestamptz,
  rules_revision integer,
  reasons bytea                         -- one byte for each (row, rule of that revision), by row
);
create index outbox_waiting on outbox (seq) where matched_at is null;
create index outbox_suspect on outbox (seq) where matched_at is null and deaths > 0;
create index outbox_held on outbox (owner) where matched_at is null and owner is not null;
create index outbox_by_xact on outbox (project_id, xact);
create index outbox_matched on outbox (matched_at) where matched_at is not null;

-- How a row was when its span ended, kept if another write changed the row before it was matched.
-- The filters of rules see the row as it was then.
create table row_at_end (
  project_id uuid not null,
  object_id uuid not null,
  row_id text not null,
  trigger_xact bigint not null,
  view jsonb not null,                  -- the columns that filters read, in the API's form
  primary key (project_id, object_id, row_id, trigger_xact)
);

create table outcome (
  id uuid primary key,                  -- derived from the key: a repeated write hits the same row
  project_id uuid not null,
  object_type text not null,
  object_id uuid not null,
  subject_kind text not null,           -- span | trace | group
  subject_id text not null,             -- of a span: its row id
  subject_version bigint not null,      -- of a span: its content_xact
  origin_kind text not null,            -- rule | rescore | manual
  origin_id uuid not null,
  role text not null,                   -- live | shadow | preview
  scorer_kind text not null,
  scorer text not null,
  scorer_version text not null,
  rules_revision integer,
  generation integer not null default 0,
  state text not null check (state in ('pending', 'completed', 'skipped', 'errored', 'superseded')),
  error_class text,
  error_message text,
  scores jsonb,                         -- [{name, score, metadata}]
  queue text not null,                  -- match | heavy | judge
  is_lead boolean not null default true,  -- others with the same scorer and subject share its run
  skip_logging boolean not null default false,
  score_span_id uuid not null,          -- without versions: a new outcome replaces its span
  attempts integer not null default 0,  -- counted, and committed, before the work starts
  deaths smallint not null default 0,   -- attempts that ended their worker, or in a bug
  next_attempt_at timestamptz not null default now(),   -- while it is pending
  lease_until timestamptz,
  owner text,
  fence bigint not null default 0,
  created timestamptz not null default now(),
  started_at timestamptz,
  finished_at timestamptz,
  run_ms real,
  calls integer,
  prompt_tokens bigint,
  completion_tokens bigint,
  model text
);
create index outcome_of_subject on outcome (project_id, object_id, subject_id);
create index outcome_due on outcome (queue, deaths desc, next_attempt_at)
  where state = 'pending' and is_lead and owner is null;
create index outcome_waiting on outcome (queue, created) where state = 'pending' and is_lead;
create index outcome_waiting_by_rule on outcome (project_id, origin_id) where state = 'pending';
create index outcome_held on outcome (owner) where state = 'pending' and owner is not null;
create index outcome_errored on outcome (project_id, finished_at) where state = 'errored';

alter table outcome alter column project_id set statistics 0;
alter table outcome alter column object_id set statistics 0;

create table ingest_request (
  key_id text not null,
  body_hash bytea not null,
  answer jsonb not null,
  created timestamptz not null default now(),
  primary key (key_id, body_hash)
);
create index ingest_request_age on ingest_request (created);

create table rejected_row (
  id bigint generated always as identity primary key,
  org_id uuid not null,
  project_id uuid,
  row_id text,
  reason text not null,
  excerpt text not null,                -- the head of the row as it came
  created timestamptz not null default now()
);
create index rejected_row_list on rejected_row (org_id, id);
create index rejected_row_age on rejected_row (created);

create table comment (
  id text not null,
  project_id uuid not null,
  object_id uuid not null,
  row_id text not null,
  body jsonb not null,
  source text,
  metadata jsonb,
  xact bigint not null,
  created timestamptz not null,
  primary key (project_id, object_id, row_id, id)
);

create table audit_entry (
  seq bigint generated always as identity primary key,
  project_id uuid not null,
  object_id uuid not null,
  row_id text not null,
  xact bigint not null,
  action text not null,
  source text,
  metadata jsonb,
  created timestamptz not null default now()
);
create index audit_of_row on audit_entry (project_id, object_id, row_id);

-- Counters are written in the transaction that writes what they count, so they are exact and
-- survive restarts. Connections write to different shards, so that they rarely wait for each other.
create table counter (
  name text not null,
  labels jsonb not null,
  shard smallint not null,
  value double precision not null,
  primary key (name, labels, shard)
) with (fillfactor = 50);
"""


def upgrade() -> None:
    op.execute(XACT_SEQUENCE)
    op.execute(TABLES)


def downgrade() -> None:
    raise RuntimeError("0001 is the first migration: drop the database instead")
