"""The filter and query language: text or JSON tree -> typed tree -> compiled closure."""

from __future__ import annotations
