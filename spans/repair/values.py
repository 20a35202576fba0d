"""Makes every value inside an event one that PostgreSQL can hold and every reader can read."""

from __future__ import annotations

import math
import re
from functools import cached_property
from typing import Any

import orjson

from spans.json import Json, JsonObject
from spans.repair.faults import Faults, Unstorable, shown
from spans.repair.json_text import INTEGER_MAX, INTEGER_MIN

EXACT_FLOAT_MAX = 2.0**63       # orjson turns integers that are larger into floats
LONG_INTEGER = re.compile(rb"[:\[,\s](-?[0-9]{19,})(?=\s*[,\]}])")
ODD_CHARACTER = re.compile("[\0\ud800-\udfff]")
NO_CHARACTER = "half a surrogate pair, or bytes that are not UTF-8"
KEY_CHARS_MAX = 60
"""How much of a key a path quotes."""

NUMBER_FIELDS = frozenset({"scores", "metrics"})
"""Objects of numbers. What is wrong with one of those, the check of its field says."""

STRICT_ID_FIELDS = frozenset({"span_id", "root_span_id"})
"""A changed id would tie a span to another trace, so a strict request may not have odd ones."""


class InexactIntegers(Exception):
    """The parser has rounded integers beyond 64 bits."""


class OddValue(Exception):
    """Some value of an event cannot be stored as it is."""


class BodyText:
    """What only the text of a request tells, because parsing loses it.

    `is_exact` says that the values come from `read_tolerantly`: integers are exact, and strings
    may hold halves of surrogate pairs.
    """

    def __init__(self, body: bytes, *, is_exact: bool = False) -> None:
        self._body = body
        self.is_exact = is_exact
        self.may_hold_odd_text = is_exact or b"\\u0000" in body

    @cached_property
    def has_rounded_integer(self) -> bool:
        """Whether the text has an integer beyond 64 bits, which the parser made a float."""
        return not self.is_exact and any(
            len(digits) > 20 or not INTEGER_MIN <= int(digits) <= INTEGER_MAX
            for digits in LONG_INTEGER.findall(self._body)
        )


def count(value: Any, depth_left: int, body: BodyText) -> int:  # noqa: ANN401 any JSON
    """How many values `value` holds. Raises OddValue for what cannot be stored as it is."""
    kind = type(value)   # asking for it is cheaper than `isinstance`
    if kind is dict or kind is list:
        if depth_left <= 0:
            raise OddValue
        nodes = 1
        for item in value.values() if kind is dict else value:
            nodes += 1 if type(item) is str else count(item, depth_left - 1, body)
        return nodes
    if (
        (kind is int and not INTEGER_MIN <= value <= INTEGER_MAX)
        or (kind is float and _is_odd(value, body))
        or kind is Unstorable
    ):
        raise OddValue
    return 1


def _is_odd(value: float, body: BodyText) -> bool:
    # Whatever lies between the bounds is finite and was not rounded.
    return not -EXACT_FLOAT_MAX < value < EXACT_FLOAT_MAX and (
        not math.isfinite(value) or _may_be_rounded(value, body)
    )


def _may_be_rounded(value: float, body: BodyText) -> bool:
    return (
        abs(value) >= EXACT_FLOAT_MAX and value.is_integer() and body.has_rounded_integer
    )


class Mender:
    """Mends an event, value by value, and counts the values in `nodes`."""

    def __init__(self, faults: Faults, body: BodyText, depth_max: int) -> None:
        self.nodes = 0
        self._faults = faults
        self._body = body
        self._depth_max = depth_max

    def event(self, event: JsonObject) -> JsonObject:
        """The event with every value mended. Numbers in NUMBER_FIELDS stay as they are.

        Raises BadInput if faults are refused, and InexactIntegers if they are not, but an
        integer was rounded.
        """
        mended: JsonObject = {}
        for name, value in event.items():
            if name in NUMBER_FIELDS and isinstance(value, dict):
                mended[name] = self._numbers(value, name)
            else:
                mended[self._text(name, name)] = self._value(value, name, self._depth_max - 1)
        return self._names_told(mended, event, "the row")

    def _numbers(self, value: JsonObject, path: str) -> JsonObject:
        self.nodes += 1
        mended: JsonObject = {
            self._text(name, path): item if isinstance(item, Unstorable)
            else self._value(item, _inside(path, name), self._depth_max - 2)
            for name, item in value.items()
        }
        return self._names_told(mended, value, path)

    def _value(self, value: Json, path: str, depth_left: int) -> Json:
        self.nodes += 1
        if isinstance(value, Unstorable):
            return self._number_text(path, value)
        if isinstance(value, str):
            return self._text(value, path)
        if isinstance(value, dict | list):
            if depth_left <= 0:
                return self._too_deep(value, path)
            if isinstance(value, list):
                return [
                    self._value(item, f"{path}[{index}]", depth_left - 1)
                    for index, item in enumerate(value)
                ]
            mended: JsonObject = {
                self._text(name, path): self._value(item, _inside(path, name), depth_left - 1)
                for name, item in value.items()
            }
            return self._names_told(mended, value, path)
        if type(value) is int and not INTEGER_MIN <= value <= INTEGER_MAX:
            return self._number_text(path, str(value))
        if type(value) is float and not math.isfinite(value):
            return self._number_text(path, str(value))
        if type(value) is float and _may_be_rounded(value, self._body):
            rounded = f"an integer beyond 64 bits, about {value:g}: send it as a string"
            if not self._faults.is_strict:
                raise InexactIntegers
            self._faults.found(path, rounded, "")
        return value

    def _names_told(self, mended: JsonObject, given: JsonObject, path: str) -> JsonObject:
        """The mended object. Says so if names that differed are the same now."""
        if len(mended) < len(given):
            what = "mended names are the same; the last of their values is stored"
            self._faults.mended(path, what)
        return mended

    def _number_text(self, path: str, text: str) -> str:
        if text.strip("-").isdigit():
            what = "an integer beyond 64 bits"
        else:
            what = "no number that can be stored"
        self._faults.found(path, f"{shown(Unstorable(text))} is {what}", "stored as text")
        return str(text)

    def _text(self, text: str, path: str) -> str:
        if not ODD_CHARACTER.search(text):
            return text
        mended = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        mended = mended.replace("\0", "\ufffd")
        done = "replaced by U+FFFD"
        if "\0" in text and path in STRICT_ID_FIELDS:
            self._faults.found(path, "must not hold NUL", done)
        elif "\0" in text:
            self._faults.mended(path, f"NUL cannot be stored; {done}")
        if mended.count("\ufffd") > text.count("\ufffd") + text.count("\0"):
            self._faults.found(path, NO_CHARACTER, done)
        return mended

    def _too_deep(self, value: Json, path: str) -> str:
        """The text of a value that is nested too deep, so that a reader still has it."""
        problem = "nested too deep (TALLYARD_DEPTH_MAX)"
        try:
            text = orjson.dumps(value).decode()
        except TypeError:   # deeper than a writer of JSON goes, or with half a surrogate pair
            self._faults.found(path, problem, "left out")
            return f"({problem})"
        self._faults.found(path, problem, "stored as JSON text")
        return text


def _inside(path: str, name: str) -> str:
    return f"{path}.{name[:KEY_CHARS_MAX]}"
