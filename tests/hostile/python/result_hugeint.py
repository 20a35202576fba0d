"""Integers that take a reader minutes, or that no double holds."""

from __future__ import annotations

GIVEN = (
    10**4000, 2**63, {"score": 10**4000}, {"score": 0.5, "metadata": {"n": 10**5000}},
    {"score": 0.5, "metadata": {"n": 2**53 + 1}}, {"score": 0.5, "metadata": {"n": -(2**200)}},
)


def handler(metadata):
    return GIVEN[metadata["variant"]]
