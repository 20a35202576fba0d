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
  probes integer not null default 0,     -- calls that have found that it does not
  error_class text not null,             -- of the last call
  reason text not null
);

create index rejected_row_by_id on rejected_row (org_id, row_id) where row_id is not null;
"""


def upgrade() -> None:
    op.execute(TABLES)


def downgrade() -> None:
    raise RuntimeError("0006 holds what judges cost: restore a backup instead")
