"""Running a scorer on a subject, whatever kind it is of."""

from __future__ import annotations
