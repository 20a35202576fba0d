"""Rules made, changed, applied from a file, run on rows that are there."""

from __future__ import annotations
