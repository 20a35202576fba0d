"""The filter and query language: text or JSON tree -> typed tree -> compiled closure."""

from __future__ import annotations

from btql.paths import columns_read, paths_read

__all__ = ["columns_read", "paths_read"]
