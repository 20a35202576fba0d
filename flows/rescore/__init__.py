"""The use cases of re-score jobs, and what runs them."""

from __future__ import annotations
