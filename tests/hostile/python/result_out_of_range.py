"""Scores below 0 and above 1."""

from __future__ import annotations

GIVEN = (7, -1, 1.0000001, -2e-9, {"score": 7}, [{"name": "a", "score": -1}], 1e308)


def handler(metadata):
    return GIVEN[metadata["variant"]]
