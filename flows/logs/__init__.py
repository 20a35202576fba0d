"""Logs of a project: ingest, feedback, fetch, queries, and the feed of changes."""

from __future__ import annotations
