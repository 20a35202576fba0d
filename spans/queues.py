"""The queues: what kinds of work there are, and who does each."""

from __future__ import annotations

MATCH, HEAVY, JUDGE, SANDBOX = "match", "heavy", "judge", "sandbox"
"""Queues: scored while matching; scorers too slow for that; LLM judges; users' own code."""


UPKEEP = "upkeep"
"""The queue that removes what is past its time."""
