"""From a finished span to its scores: match, claim, run, record."""

from __future__ import annotations
