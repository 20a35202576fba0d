"""Creates functions (users' own scorers), their versions and bundles, and invocations."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"

TABLES = """
create table function (
  id uuid primary key,
  project_id uuid not null references project on delete cascade,
  slug text not null,                   -- of all its versions
  version bigint not null,              -- the latest; `_xact_id` on the wire
  shadow_version bigint,                -- runs beside the latest, its scores never shown
  shadow_rate double precision check (shadow_rate between 0 and 1),
  created timestamptz not null default now(),
  deleted_at timestamptz                -- its versions stay: outcomes name them
);
create unique index function_slug on function (project_id, slug) where deleted_at is null;

create table bundle (
  id uuid primary key,
  org_id uuid not null references organization,
  upload_sha256 bytea not null,         -- of the secret in its upload URL
  content bytea,                        -- as it came; null until it is uploaded
  content_encoding text,
  content_sha256 bytea,
  created timestamptz not null default now()
);
alter table bundle alter column content set storage external;   -- it is compressed already
create index bundle_by_content on bundle (content_sha256);

-- Prompts too: a function whose data is of type "prompt". Rows are never changed.
create table function_version (
  function_id uuid not null references function on delete cascade,
  version bigint not null,
  project_id uuid not null,
  name text not null,
  description text,
  function_type text,                   -- scorer | llm | tool | ...; null: a prompt
  function_data jsonb not null,
  prompt_data json,                     -- a judge is told the choices in their order
  function_schema jsonb,
  tags jsonb,
  metadata jsonb,
  origin jsonb,
  kind text not null,                   -- code | classifier | global | prompt | other
  queue text,                           -- sandbox | judge | heavy; null: it is no scorer
  bundle_id uuid references bundle,     -- that holds its code
  program jsonb,                        -- what the jail made of its code, ready to run
  created timestamptz not null default now(),
  primary key (function_id, version)
);
create index function_version_of_project on function_version (project_id, version);
create index function_version_of_bundle on function_version (bundle_id)
  where bundle_id is not null;

-- A request whose client waits. A worker of `queue` answers it and announces the answer by
-- NOTIFY invocation.
create table invocation (
  id uuid primary key,
  org_id uuid not null references organization,
  queue text not null,
  request json not null,                -- json: a record's keys keep their order
  answer json,                          -- null until it is answered
  created timestamptz not null default now(),
  answered_at timestamptz,
  attempts integer not null default 0,
  lease_until timestamptz,
  owner text,
  fence bigint not null default 0
);
create index invocation_waiting on invocation (queue, created) where answered_at is null;
create index invocation_age on invocation (created);

-- What each sandbox worker found when it tried to contain something.
create table sandbox_worker (
  owner text primary key,               -- its process, as in pg_stat_activity
  host text not null,
  tier text,                            -- bubblewrap | landlock; null: none
  is_ok boolean not null,
  sentence text not null,               -- what is wrong, and the next step; empty if nothing
  probes jsonb not null,                -- {probe: what it gave}
  seen_at timestamptz not null default now()
);

-- What a judge answered to exactly this request. Used only if the operator allows it.
create table judge_answer (
  request_sha256 bytea primary key,
  answer jsonb not null,
  created timestamptz not null default now()
);
create index judge_answer_age on judge_answer (created);

-- The tokens that code scorers spent on the models that they may use.
create table scorer_tokens (
  scorer_id text not null,
  day date not null,                    -- UTC
  tokens bigint not null,
  primary key (scorer_id, day)
);

-- The functions that a revision's rules name, at their versions of that moment.
alter table rule_set add column functions jsonb not null default '[]';

alter table outcome
  add column label text,                -- how its scorer is shown, where not by its name
  add column log text,                  -- what the scorer wrote to stdout and stderr
  add column is_cached boolean not null default false;  -- the judge was not asked anew
-- The condition on origin_id keeps the planner from using this index for queries that name rows:
-- they have a better one, and would read a whole backlog over this one.
drop index outcome_waiting_by_rule;
create index outcome_waiting_by_rule on outcome (project_id, origin_id)
  where state = 'pending' and origin_id is not null;
create index outcome_of_shadow on outcome (scorer, scorer_version, finished_at)
  where role = 'shadow' and finished_at is not null;
"""


def upgrade() -> None:
    op.execute(TABLES)


def downgrade() -> None:
    raise RuntimeError("0003 holds users' scorers: restore a backup instead")
