"""A score that is no number."""

from __future__ import annotations

import decimal

NAN = float("nan")
GIVEN = (
    NAN, {"score": NAN}, [{"name": "a", "score": NAN}], {"score": 0.5, "metadata": {"x": NAN}},
    decimal.Decimal("NaN"), {"score": "NaN"},
)


def handler(metadata):
    return GIVEN[metadata["variant"]]
