"""Budgets: caps on what judge calls cost, and prices. Pure."""

from __future__ import annotations
