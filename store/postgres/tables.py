"""The table `span`, for statements that SQLAlchemy composes. The migrations create it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, DateTime, MetaData, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSON, JSONB
from sqlalchemy.types import TypeEngine

from spans.columns import COLUMNS, Storage
from spans.row import ObjectRef

KEY_COLUMNS = (*ObjectRef._fields, "id")
"""The primary key of `span`, in the order in which rows are sorted before they are locked."""

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

span = Table(
    "span",
    metadata,
    *(
        Column(
            column.stored_as,
            _TYPES[column.storage],
            primary_key=column.stored_as in KEY_COLUMNS,
            nullable=not column.is_required,
        )
        for column in COLUMNS
        if column.storage is not None
    ),
)
