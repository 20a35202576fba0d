"""Keeps how long an outcome has failed, which judge endpoints are down, and what calls cost."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"

TABLES = """
alter table outcome
  add column failing_since timestamptz,  -- its first error that time may heal, while it is pending
  add column cached_tokens bigint,       -- of prompt_tokens, those that the provider had cached
  add column cost double precision;      -- in the currency of the endpoint's prices

-- The judge endpoints that are down. A row is an open circuit; none means that calls are made.
create table circuit (
  endpoint text primary key,
  opened_at timestamptz not null default now(),
  probe_at timestamptz not null,         -- when one call may find out whether it answers again
  probes integer not null default 0,     -- outcomes that were to find that out
  error_class text not null,             -- of the last call
  reason text not null
);

alter table rejected_row add column span_id text;
create index rejected_row_by_id on rejected_row (org_id, row_id, created) where row_id is not null;
create index rejected_row_by_span on rejected_row (org_id, span_id, created)
  where span_id is not null;

-- Answers to requests whose retry must not be stored again: the server made ids for their rows.
-- The former table knew them by their text alone, whether or not a request said that it is a
-- retry. It held an hour's answers, so nothing is moved.
drop table ingest_request;
create table ingest_request (
  key_id text not null,
  name bytea not null,                   -- hash of the path, and the Idempotency-Key or the body
  body_hash bytea not null,
  tries bigint not null,                 -- the latest try that got the answer; the first is 0
  answer jsonb not null,
  created timestamptz not null default now(),   -- when it was given last
  primary key (key_id, name)
);
create index ingest_request_age on ingest_request (created);

-- A score span also shows which tokens were cached and, where there are prices, the cost.
create function score_span_metrics(
  started_at timestamptz, run_ms real, calls integer, prompt_tokens bigint,
  completion_tokens bigint, cached_tokens bigint, cost double precision
) returns jsonb immutable parallel safe language sql return
  score_span_metrics(started_at, run_ms, calls, prompt_tokens, completion_tokens)
  || case when cached_tokens > 0
          then jsonb_build_object('prompt_cached_tokens', cached_tokens) else '{}' end
  || case when cost is not null then jsonb_build_object('estimated_cost', cost) else '{}' end;

do $$
declare
  former text := pg_get_viewdef('shown_span'::regclass);
  changed text := replace(former, 'outcome.completion_tokens)',
                          'outcome.completion_tokens, outcome.cached_tokens, outcome.cost)');
begin
  if changed = former then
    raise exception 'shown_span does not show the completion tokens of outcomes';
  end if;
  execute 'create or replace view shown_span as ' || changed;
end $$;
"""


def upgrade() -> None:
    op.execute(TABLES)


def downgrade() -> None:
    raise RuntimeError("0006 holds what judges cost: restore a backup instead")
