"""A score without end, or one in its metadata."""

from __future__ import annotations

INFINITY = float("inf")
GIVEN = (
    INFINITY, -INFINITY, {"score": INFINITY}, {"score": 0.5, "metadata": {"deep": [-INFINITY]}},
    {"score": "Infinity"}, [1.0, INFINITY],
)


def handler(metadata):
    return GIVEN[metadata["variant"]]
