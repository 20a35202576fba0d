"""Budgets and what was spent of them."""

from __future__ import annotations
