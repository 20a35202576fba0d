"""Makes JSON of what a handler returned: scores strictly, what stands beside them as it can.

A value that is no score is the author's mistake, and is refused. What stands beside a score
must not cost it: a value that JSON has no form for is replaced or left out, and a line says so.
`runner.cjs` does the same for JavaScript.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections import deque
from collections.abc import Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PurePath
from typing import Any
from uuid import UUID

INTEGER_MAX = 2**53                       # as `scorers.sandbox.frame_reader` takes them
DEPTH_MAX = 24                            # below a score; it takes 32 in all
CHANGES_MAX = 10                          # lines of one record
TEXT_CHARACTERS = 1000                    # of a value that can only be shown as text
PATH_CHARACTERS = 100
ENVELOPE_BYTES = 64                       # of the body around its scores

_SCORE_FIELDS = ("score", "name", "metadata", "error")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_WORDS = {True: "true", False: "false", None: "null"}
_AS_TEXT = (UUID, PurePath, timedelta)
_LISTS = (list, tuple, set, frozenset, deque)


class NotAScore(Exception):
    """The handler returned something else. The message names it."""


class ResultTooLarge(Exception):
    """The scores alone have more bytes than a result may have."""


class _Full(Exception):
    """A value beside a score has more bytes than there is room for."""


def encoded(value: object, most: int) -> tuple[bytes, list[str]]:
    """The body of a frame with the handler's result, and a line for each change to it.

    `most` is the most bytes of the body. Raises NotAScore, ResultTooLarge, and whatever the
    value's own methods raise.
    """
    making = _Making()
    returned = _unwrapped(value)
    many = isinstance(returned, list | tuple)
    given = [_unwrapped(each) for each in returned] if many else [returned]
    scores = [making.score(each) for each in given]
    left = most - ENVELOPE_BYTES - len(_json(scores))
    if left < 0:
        raise ResultTooLarge(f"more than {most} bytes")
    for place, (each, score) in enumerate(zip(given, scores, strict=True)):
        if isinstance(score, dict):
            left = making.fill(score, each, f"[{place}]." if many else "", left)
    return _json({"result": scores if many else scores[0]}), making.changes()


def _json(value: object) -> bytes:
    return json.dumps(value, allow_nan=False, ensure_ascii=False).encode()


def _unwrapped(value: Any) -> Any:  # noqa: ANN401 whatever a handler returns
    """A number or a dict for a number, score or model of another library."""
    if value is None or isinstance(value, bool | int | float | str | list | tuple | dict):
        return value
    if isinstance(value, Decimal | Fraction):
        return float(value)
    if not isinstance(value, type):
        for name in ("as_dict", "model_dump", "item"):
            method = getattr(value, name, None)
            if callable(method):
                return method()
        if dataclasses.is_dataclass(value) or hasattr(value, "score"):
            return _attributes(value)
    raise NotAScore(f"a score is a number in 0..1, None or an object, not {_kind(value)}")


def _attributes(value: Any) -> dict[str, Any]:  # noqa: ANN401 as above
    """The fields of a dataclass, or those that a score has."""
    if dataclasses.is_dataclass(value):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    return {
        name: getattr(value, name)
        for name in _SCORE_FIELDS
        if getattr(value, name, None) is not None or name == "score"
    }


def _kind(value: object) -> str:
    return type(value).__name__[:PATH_CHARACTERS]


class _Making:
    """Makes JSON values, and keeps a line for each change."""

    def __init__(self) -> None:
        self._changes: list[str] = []
        self._unsaid = 0
        self._left = 0

    def changes(self) -> list[str]:
        more = f"{self._unsaid} more changes"
        return [*self._changes, more] if self._unsaid else self._changes

    def score(self, given: Any) -> Any:  # noqa: ANN401 whatever a handler returns
        """The score without what stands beside it: a value, or an object with a value."""
        if not isinstance(given, dict):
            return self._value(given, "")
        named = given.get("name")
        of = f" of {named!r:.99}" if isinstance(named, str) else ""
        return {"score": self._value(given["score"], of)} if "score" in given else {}

    def fill(self, score: dict[str, Any], given: dict[Any, Any], at: str, left: int) -> int:
        """Put what stands beside a score into it, as far as it fits. Return the bytes left."""
        for key, value in given.items():
            if key == "score":
                continue
            name = self._key(key)
            self._left = left
            try:
                made = self._plain(value, f"{at}{name}", (), DEPTH_MAX)
                size = len(_json({name: made}))
            except (_Full, MemoryError):
                size = left + 1
            if size > left:
                self._say(f"{at}{name}", "does not fit into the result (result_bytes)",
                          "it is left out")
                continue
            score[name] = made
            left -= size
        return left

    def _value(self, value: Any, of: str) -> object:  # noqa: ANN401 as above
        value = _unwrapped(value)
        if isinstance(value, float) and not math.isfinite(value):
            raise NotAScore(f"the score{of} is {value}: a score is a number in 0..1, or None")
        if value is not None and not isinstance(value, bool | int | float | str):
            raise NotAScore(f"the score{of} is a {_kind(value)}: a score is a number in 0..1")
        return _UNSTORABLE.sub("\ufffd", value) if isinstance(value, str) else value

    def _say(self, path: str, was: str, now: str) -> None:
        if len(self._changes) < CHANGES_MAX:
            shown = ascii(path[:PATH_CHARACTERS])[1:-1]
            self._changes.append(f"{shown} {was}: {now}")
        else:
            self._unsaid += 1

    def _plain(self, value: Any, path: str, above: tuple[int, ...], depth: int) -> object:  # noqa: ANN401 any value at all
        """The value as JSON. `above` are the ids of the containers that it stands in."""
        self._left -= 2                   # the least that a value takes, with its comma
        if self._left < 0:
            raise _Full
        try:
            return self._converted(value, path, above, depth)
        except (_Full, MemoryError):
            raise
        # Methods of foreign objects run here, and may raise anything.
        except BaseException as error:  # noqa: BLE001
            self._say(path, f"cannot be read ({type(error).__name__[:PATH_CHARACTERS]})",
                      "null is stored")
            return None

    def _converted(  # noqa: C901 one case after another
        self, value: Any, path: str, above: tuple[int, ...], depth: int  # noqa: ANN401 as above
    ) -> object:
        match value:
            case None | bool():
                return value
            case Enum():
                return self._plain(value.value, path, above, depth)
            case str():
                return self._text(value, path)
            case int():
                return self._integer(value, path)
            case float() | Decimal() | Fraction():
                return self._float(float(value), path)
            case bytes() | bytearray():
                self._check_room(len(value))
                self._say(path, "is bytes", "it is stored as text")
                return self._text(value.decode("utf-8", "backslashreplace"), path)
            case date() | time():
                return value.isoformat()
            case _ if isinstance(value, _AS_TEXT):
                return self._text(str(value), path)
        if id(value) in above:
            self._say(path, "contains itself", "null is stored")
            return None
        if not depth:
            self._say(path, f"is nested more than {DEPTH_MAX} deep", "null is stored")
            return None
        return self._inner(value, path, (*above, id(value)), depth - 1)

    def _inner(
        self, value: Any, path: str, above: tuple[int, ...], depth: int  # noqa: ANN401 as above
    ) -> object:
        """A value that holds others."""
        if isinstance(value, Mapping):
            made: dict[str, object] = {}
            for key, each in value.items():
                name = self._key(key)
                if name in made:
                    self._say(f"{path}.{name}", "has two values", "the last one is stored")
                made[name] = self._plain(each, f"{path}.{name}", above, depth)
            return made
        if isinstance(value, _LISTS):
            self._check_room(2 * len(value))
            items = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
            return [
                self._plain(each, f"{path}[{place}]", above, depth)
                for place, each in enumerate(items)
            ]
        if not isinstance(value, type):
            for name in ("as_dict", "model_dump", "tolist", "to_dict"):
                method = getattr(value, name, None)
                if callable(method):
                    if name == "tolist" and isinstance(getattr(value, "size", None), int):
                        self._check_room(2 * value.size)
                    return self._plain(method(), path, above, depth)
            if dataclasses.is_dataclass(value) or hasattr(value, "score"):
                return self._plain(_attributes(value), path, above, depth)
        self._say(path, f"is a {_kind(value)}, which JSON has no form for",
                  "it is stored as text")
        return self._text(str(value)[:TEXT_CHARACTERS], path)

    def _integer(self, value: int, path: str) -> object:
        if -INTEGER_MAX <= value <= INTEGER_MAX:
            return int(value)
        text = str(value)   # which Python refuses for thousands of digits
        self._say(path, "is an integer beyond 2**53", "it is stored as text")
        return self._text(text, path)

    def _float(self, value: float, path: str) -> object:
        if math.isfinite(value):
            return value
        self._say(path, f"is {value}, which JSON has no form for", "null is stored")
        return None

    def _check_room(self, least: int) -> None:
        """Raise _Full for a value of at least so many bytes before it takes up more memory."""
        if least > self._left:
            raise _Full

    def _text(self, text: str, path: str) -> str:
        self._left -= len(text)
        if self._left < 0:
            raise _Full
        if not _UNSTORABLE.search(text):
            return text
        self._say(path, "has characters that cannot be stored", "\\ufffd stands for each")
        return _UNSTORABLE.sub("\ufffd", text)

    def _key(self, key: object) -> str:
        """The key as JSON's own encoder writes it, and as text if it would refuse it."""
        if key is None or isinstance(key, bool):
            return _WORDS[key]
        try:
            text = key if isinstance(key, str) else str(key)
        except BaseException:  # noqa: BLE001 its own code runs here
            text = _kind(key)
        self._left -= len(text)
        return _UNSTORABLE.sub("\ufffd", text)
