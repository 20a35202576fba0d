"""Rules, and the recent rows that one is run on."""

from __future__ import annotations
