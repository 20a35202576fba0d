"""Rows in and out: ingest, feedback, fetch, queries."""

from __future__ import annotations
