"""Scorers that compute: autoevals' own, run in this process."""

from __future__ import annotations
