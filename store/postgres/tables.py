"""The view `shown_span`, for statements that SQLAlchemy composes. A migration creates it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSON, JSONB
from sqlalchemy.types import TypeEngine

from spans.columns import COLUMNS, Storage

metadata = MetaData()

# `Any`: the type of a column's values does not matter to the rows that are read.
_TYPES: Mapping[Storage, TypeEngine[Any]] = {
    Storage.TEXT: Text(),
    Storage.UUID: Uuid(),
    Storage.BIGINT: BigInteger(),
    Storage.BOOLEAN: Boolean(),
    Storage.TIMESTAMPTZ: DateTime(timezone=True),
    Storage.JSON: JSON(),
    Storage.JSONB: JSONB(),
}

shown_span = Table(
    "shown_span",
    metadata,
    Column("object_no", Integer(), nullable=False),
    *(
        Column(column.stored_as, _TYPES[column.storage], nullable=not column.is_required)
        for column in COLUMNS
        if column.storage is not None
    ),
)
"""Rows as readers see them. An object's rows are found by `object_no`."""
