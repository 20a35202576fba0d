"""The tables that SQLAlchemy composes statements over; the migrations define them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, DateTime, MetaData, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSON, JSONB

metadata = MetaData()

span = Table(
    "span",
    metadata,
    Column("project_id", Uuid, primary_key=True),
    Column("object_type", Text, primary_key=True),
    Column("object_id", Uuid, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("xact", BigInteger, nullable=False),
    Column("content_xact", BigInteger, nullable=False),
    Column("trigger_xact", BigInteger),
    Column("has_base", Boolean, nullable=False),
    Column("deleted_at", DateTime(timezone=True)),
    Column("span_id", Text, nullable=False),
    Column("root_span_id", Text, nullable=False),
    Column("span_parents", JSONB),
    Column("is_root", Boolean, nullable=False),
    Column("created", DateTime(timezone=True), nullable=False),
    Column("input", JSON),
    Column("output", JSON),
    Column("expected", JSON),
    Column("error", JSONB),
    Column("logged_scores", JSONB),
    Column("computed_scores", JSONB),
    Column("computed_by", JSONB),
    Column("scores", JSONB),
    Column("metadata", JSONB),
    Column("metrics", JSONB),
    Column("tags", JSONB),
    Column("span_attributes", JSONB),
    Column("context", JSONB),
    Column("origin", JSONB),
    Column("facets", JSONB),
    Column("classifications", JSONB),
    Column("extra", JSONB),
    Column("scoring_state", JSONB),
)
