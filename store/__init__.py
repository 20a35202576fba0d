"""Keeps all data in PostgreSQL. No other room contains SQL."""

from __future__ import annotations
