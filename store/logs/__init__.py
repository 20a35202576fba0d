"""Writes and reads the rows of logs, and reads their changes."""

from __future__ import annotations
