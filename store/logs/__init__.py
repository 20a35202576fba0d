"""Rows: written, read, followed."""

from __future__ import annotations
