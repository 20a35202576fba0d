"""Reads and writes rules, and the recent rows that a rule is run on."""

from __future__ import annotations
