"""The filter and query language as SQL."""

from __future__ import annotations
