"""Outcomes: explain them, count their errors, and retry them."""

from __future__ import annotations
