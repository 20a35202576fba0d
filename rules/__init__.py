"""Rules: which spans are scored, how many of them, and by which scorers."""

from __future__ import annotations
