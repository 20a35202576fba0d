"""Reads outcomes for explain and error summaries, and makes errored ones pending again."""

from __future__ import annotations
