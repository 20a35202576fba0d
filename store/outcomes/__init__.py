"""Outcomes: explained, summed up, tried again."""

from __future__ import annotations
