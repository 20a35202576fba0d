"""Adds re-score jobs, what they replaced, and budgets of judge calls."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"

TABLES = """
create table rescore_job (
  job_no integer generated always as identity primary key,   -- also the generation of its scores
  id uuid not null unique,
  project_id uuid not null references project on delete cascade,
  rule_id uuid,                         -- the rule whose rows and scorers it takes, if any
  state text not null check (state in ('planned', 'running', 'paused', 'cancelling', 'cancelled',
                                       'completed', 'failed')),
  paused_by text check (paused_by in ('hand', 'probe')),      -- while it is paused
  request jsonb not null,               -- what was asked for, as it is shown
  scorers jsonb not null,               -- [{kind, name, version, label, queue}], in the order of
                                        -- the bits of rescore_step.wants
  object_nos integer[] not null,        -- the objects whose rows it takes, in this order
  created timestamptz not null default now(),
  created_by text,                      -- the name of the key that made it
  idempotency_key text,
  request_hash bytea not null,          -- of the request, to tell a repeated key from a reused one
  -- How far its rows are selected: rows beyond these were looked at, newest first.
  object_place integer not null default 1,   -- in object_nos
  before_created timestamptz,
  before_seq bigint,
  selected_at timestamptz,              -- when the last row was selected
  -- How far its steps are run.
  next_step integer not null default 0,
  next_row integer not null default 0,  -- of the next step: those before it have begun,
  begun_outcomes integer not null default 0,   -- and so many outcomes were wanted on them
  attempts integer not null default 0,  -- of the next rows; counted before they start
  runner text,                          -- the process that is at the next rows,
  runner_until timestamptz,             -- while it lives, and until then
  probe integer,                        -- it pauses after so many rows, if set
  max_per_second real,                  -- rows
  paced_from timestamptz,               -- the rate holds from here on,
  paced_records bigint not null default 0,   -- for so many rows that were begun since
  started_at timestamptz,
  finished_at timestamptz,
  failure text,                         -- why it failed
  -- Undoing it: steps below rollback_step are restored.
  rollback_at timestamptz,
  rollback_step integer not null default 0,
  rolled_back_at timestamptz,
  restored bigint not null default 0,   -- rows whose scores were restored
  left_alone bigint not null default 0  -- rows that others have changed since
);
create unique index rescore_job_of_project on rescore_job (project_id, created, job_no);
create unique index rescore_job_repeated on rescore_job (project_id, idempotency_key)
  where idempotency_key is not null;
create index rescore_job_active on rescore_job (job_no)
  where state in ('planned', 'running', 'paused', 'cancelling')
     or rollback_at is not null and rolled_back_at is null;
create index rescore_job_ended on rescore_job (finished_at) where finished_at is not null;

-- The rows that a job takes, some hundreds in each step. They are selected before the first is
-- scored, so that what the job does not depend on what it has done.
create table rescore_step (
  job_no integer not null references rescore_job on delete cascade,
  step_no integer not null,             -- from 0, without gaps
  object_no integer not null,
  records integer not null,
  outcomes integer not null,            -- one for each row and scorer that is wanted on it
  seqs bigint[] not null,
  versions bigint[] not null,           -- the content_xact of each when it was selected
  wants integer[],                      -- bits of the job's scorers for each; null: all of them
  primary key (job_no, step_no)
);

-- The scores that jobs replaced. A rollback puts them back, and a report compares them.
create table replaced_score (
  subject_seq bigint not null,
  job_no integer not null,
  name text not null,
  score jsonb not null,                 -- as it stood in span_head.computed_scores,
  by jsonb not null,                    -- and in computed_by
  is_undone boolean not null default false,   -- its job was rolled back: only reports read it
  primary key (subject_seq, job_no, name)
);

alter table outcome add column job_no integer;   -- of the re-score job that asked for it, if any
create index outcome_of_job on outcome (job_no, state, error_class) where job_no is not null;
alter table outcome alter column job_no set statistics 10;
-- What judges took lately: a plan tells by it what a job would take.
create index outcome_judged on outcome (use_no, finished_at) where calls > 0;

-- A cap on judge calls. Money is in billionths of the unit of the prices.
create table budget (
  budget_no integer generated always as identity primary key,
  id uuid not null unique,
  project_id uuid not null references project on delete cascade,
  subject_kind text not null check (subject_kind in ('project', 'rule', 'job')),
  subject_id uuid not null,             -- of the project, the rule or the job
  period text not null check (period in ('day', 'total')),   -- a day begins at midnight UTC
  money bigint,
  calls bigint,
  created timestamptz not null default now(),
  created_by text,
  unique (subject_id, period),
  check (money is not null or calls is not null)
);
create index budget_of_project on budget (project_id);

-- What is spent of a budget in a period, and what calls under way may cost.
create table budget_use (
  budget_no integer not null references budget on delete cascade,
  day date not null,                    -- '-infinity' for a total
  money_spent bigint not null default 0,
  calls_spent bigint not null default 0,
  money_reserved bigint not null default 0,   -- a call that was never settled stays here
  calls_reserved bigint not null default 0,
  wanted bigint,                        -- the least money that a call asked for in vain since
                                        -- outcomes were last released
  primary key (budget_no, day)
);
"""


def upgrade() -> None:
    op.execute(TABLES)


def downgrade() -> None:
    raise RuntimeError("0008 holds what re-score jobs replaced: restore a backup instead")
