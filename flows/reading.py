"""Reading rows back: a page at a time, newest first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from btql.query import Query
from btql.tree import Expr
from spans.errors import BadInput
from spans.ids import OrgId
from spans.json import Json, JsonObject
from spans.row import ObjectRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Rows in the API's form, and where the next page goes on (None: there is none)."""

    rows: list[JsonObject]
    cursor: str | None
    schema: JsonObject
