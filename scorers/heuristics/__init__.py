"""Scorers that compute: autoevals' own, run in this process, and two that replace its own."""

from __future__ import annotations
