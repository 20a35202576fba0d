"""Schedules and alerts over scored spans."""

from __future__ import annotations
