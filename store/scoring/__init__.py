"""Claims outbox entries and pending outcomes, and records what became of them."""

from __future__ import annotations
