"""From a finished span to its scores: match it, claim its outcomes, run scorers, record."""

from __future__ import annotations
