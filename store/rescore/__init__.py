"""Re-score jobs, their steps, and what they replaced."""

from __future__ import annotations
