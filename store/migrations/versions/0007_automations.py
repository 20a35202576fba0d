"""Adds automations: what they watch, what their evaluations found, and their deliveries."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"

TABLES = """
create table automation (
  automation_no integer generated always as identity primary key,
  id uuid not null unique,
  project_id uuid not null references project on delete cascade,
  name text not null,
  description text,
  config jsonb not null,                -- as it is sent, without secrets
  secret bytea,                         -- signs deliveries; encrypted, as the next three
  former_secret bytea,                  -- signs too, until former_secret_until
  former_secret_until timestamptz,
  authorization_header bytea,           -- the value of this header; encrypted
  created timestamptz not null default now(),
  created_by text,                      -- the name of the key that made it
  unique (project_id, name)
);

-- What evaluating changes of an automation: small, since every look that finds a match writes it.
create table automation_state (
  automation_no integer primary key references automation on delete cascade,
  project_id uuid not null,
  is_active boolean not null,
  watch_no integer not null,            -- names the automation and its filter in watched_row
  start_xact bigint not null,           -- what was stored up to here never counts
  started_at timestamptz not null,
  has_baseline boolean not null default false,  -- whether rows before start_xact were looked at
  collected bigint not null default 0,  -- matches that no notification has reported
  first_at timestamptz,                 -- when the first of them was stored
  open_from timestamptz,                -- where the window of an abandoned notification began
  reported_until timestamptz,           -- the end of the last delivered notification
  due_at timestamptz,                   -- when the next notification is formed
  delivery_id uuid,                     -- the notification on its way: no other is formed
  failing_since timestamptz,            -- the first failed attempt since a delivery succeeded
  failed_attempts integer not null default 0,
  disabled_at timestamptz,              -- when Tallyard paused it, and why
  disabled_reason text
);
create index automation_due on automation_state (project_id, due_at) where due_at is not null;
create index automation_begun on automation_state (project_id) where not has_baseline and is_active;
create index automation_disabled on automation_state (disabled_at)
  where disabled_at is not null;
create sequence watch_seq as integer;

-- How far the changes of a project's logs have been read, for all of its automations.
create table automation_project (
  project_id uuid primary key references project on delete cascade,
  object_no integer not null,           -- of the project's logs
  revision integer not null default 0,  -- counts the changes of its automations
  active integer not null default 0,    -- how many of them are active
  read_xact bigint not null,            -- the last change that was read,
  read_seq bigint not null,             -- and the place of its row
  looked_at timestamptz not null
);
create index automation_project_active on automation_project (looked_at) where active > 0;

-- When versions were stored: `xact`, and no higher one, could be read from `first_at` to `last_at`.
-- What has a version above it was stored after `last_at`.
create table version_time (
  xact bigint primary key,
  first_at timestamptz not null,
  last_at timestamptz not null
);
create index version_time_age on version_time (last_at);

-- The rows that automations match now, so that a row counts once until a filter was false.
create table watched_row (
  object_no integer not null,
  seq bigint not null,
  watches integer[] not null,           -- watch_no of each automation that matches the row
  primary key (object_no, seq)
);

-- One row for each look at a project's changes: what it read, and what became of each match.
create table evaluation (
  evaluation_no bigint generated always as identity primary key,
  object_no integer not null,
  looked_at timestamptz not null,       -- the first and the last of the looks that are told here:
  until timestamptz not null,           -- looks in a row that matched nothing share one
  looks integer not null default 1,
  from_xact bigint not null,            -- the changes that were read: from_xact < xact <= upto_xact
  upto_xact bigint not null,
  rows_read bigint not null,
  automations integer not null,         -- how many were evaluated
  automation_nos integer[] not null default '{}',   -- those that matched rows; beside each:
  matches integer[] not null default '{}',          -- how many rows
  decisions text[] not null default '{}',           -- fired | collected | retrying
  due_ats timestamptz[] not null default '{}'       -- when what was collected is sent
);
create index evaluation_of_object on evaluation (object_no, evaluation_no);
create index evaluation_age on evaluation (until);

-- The messages to webhooks. A notification is written together with the end of its window.
create table delivery (
  id uuid primary key,                  -- version 7; the header webhook-id is msg_<id>
  project_id uuid not null,
  automation_no integer references automation on delete cascade,  -- null: a test before saving
  is_test boolean not null,
  state text not null
    check (state in ('pending', 'delivered', 'abandoned', 'failed')),   -- failed: of a test
  created timestamptz not null default now(),
  time_start timestamptz not null,
  time_end timestamptz not null,
  matches bigint not null,
  first_at timestamptz,                 -- when the first of its matches was stored
  body bytea not null,                  -- the exact bytes that are signed and sent
  target jsonb,                         -- the action of a test that has no automation,
  secret bytea,                         -- what signs it, and its header of that name; both are
  authorization_header bytea,           -- encrypted, and forgotten when it ends
  next_attempt_at timestamptz not null default now(),
  attempts integer not null default 0,  -- made since it was formed, or sent again by hand
  attempt_no integer not null default 0,   -- all attempts that were ever made
  fence bigint not null default 0,
  owner text,
  lease_until timestamptz,
  ended_at timestamptz,
  delivered_at timestamptz,             -- when its receiver first took it
  carried_by uuid                       -- the later notification that reports these matches
);
create unique index delivery_slot on delivery (automation_no, time_end) where not is_test;
create index delivery_due on delivery (project_id, next_attempt_at)
  where state = 'pending' and owner is null;
create index delivery_held on delivery (owner) where state = 'pending' and owner is not null;
create index delivery_of_automation on delivery (automation_no, created, id);
create index delivery_of_project on delivery (project_id, created, id);
create index delivery_age on delivery (created);
create index delivery_pending on delivery (created) where state = 'pending';

create table delivery_attempt (
  delivery_id uuid not null references delivery on delete cascade,
  attempt_no integer not null,
  project_id uuid not null,
  endpoint bytea not null,              -- hash of the URL: limits count by it
  started_at timestamptz not null default now(),
  run_ms real,                          -- null: under way, or its worker died
  address_family text,                  -- ipv4 | ipv6, of the address that was connected to
  status integer,                       -- of the HTTP answer
  error_class text,
  error_message text,
  response text,                        -- the first kilobyte of the answer's body
  primary key (delivery_id, attempt_no)
);
create index delivery_attempt_of_endpoint on delivery_attempt (endpoint, started_at);
create index delivery_attempt_of_project on delivery_attempt (project_id, started_at);
"""


def upgrade() -> None:
    op.execute(TABLES)


def downgrade() -> None:
    raise RuntimeError("0007 holds automations and their deliveries: restore a backup instead")
