"""Reads JSON text that a strict parser refuses, because it holds what JSON does not know.

Python's own `json.dumps` writes NaN, infinite numbers and halves of surrogate pairs. Integers
beyond 64 bits are JSON, but a strict parser makes floats of them.
"""

from __future__ import annotations

import json
import math

from spans.json import Json
from spans.repair.faults import Unstorable

INTEGER_MIN, INTEGER_MAX = -(2**63), 2**64 - 1
"""What is kept as an integer: the same as by the strict parser."""

INTEGER_CHARS_MAX = 20
"""Characters of the longest such integer. Python refuses to read those of some thousands."""


def read_tolerantly(body: bytes) -> Json:
    """The value in a JSON text. A number that cannot be kept exactly becomes Unstorable.

    Halves of surrogate pairs stay in strings and keys. Raises ValueError, and RecursionError
    for a text that is nested as deeply as Python's stack allows.
    """
    return _DECODER.decode(body.decode())   # type: ignore[no-any-return]


def _integer(text: str) -> int | Unstorable:
    if len(text) <= INTEGER_CHARS_MAX and INTEGER_MIN <= (number := int(text)) <= INTEGER_MAX:
        return number
    return Unstorable(text)


def _float(text: str) -> float | Unstorable:
    number = float(text)
    return number if math.isfinite(number) else Unstorable(text)


_DECODER = json.JSONDecoder(
    parse_int=_integer, parse_float=_float, parse_constant=Unstorable
)
