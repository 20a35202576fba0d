"""Reads and writes organisations, projects and API keys."""

from __future__ import annotations
