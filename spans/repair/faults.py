"""What is wrong with the values of a row: refused, or mended with a warning on the row.

Clients of `/logs3` read no answer and would drop a whole batch after an error, so a value that
cannot be stored is mended there. Everywhere else it is refused. The code that finds a fault is
the same: it says what is wrong and what it does about it, and goes on unless that raises.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

import orjson

from spans.errors import BadInput
from spans.json import Json, JsonObject

INGEST_WARNINGS = "ingest_warnings"
"""The field of a row with the sentences about what was mended in it. Clients cannot set it."""

WARNINGS_MAX = 20
"""Sentences on one row: enough to recognise what a client does wrong, a few kB at most."""

PATH_CHARS_MAX = 200
SHOWN_CHARS_MAX = 40
SHOWN_BYTES = 2000   # of a row that cannot be read
"""How much of a path, and of a value, a sentence quotes."""

AND_MORE = "further values were mended too"


class Unstorable(str):
    """A number of a JSON text that no number can hold, as it was written: NaN, 1e999, 2^64.

    A subclass of `str`, since only its text is left of it.
    """

    __slots__ = ()


class Unreadable(str):
    """The beginning of a row's text that no parser can read, and why.

    `fields` has those of its outermost fields that are plain strings and name it.
    """

    __slots__ = ("fields", "reason")
    fields: JsonObject
    reason: str

    def __new__(cls, text: bytes, reason: str, fields: JsonObject) -> Self:
        made = super().__new__(cls, text[:SHOWN_BYTES].decode(errors="replace"))
        made.reason = reason
        made.fields = fields
        return made


class Faults:
    """The faults of one row after another. Strict: the first one raises BadInput."""

    def __init__(self, *, is_strict: bool) -> None:
        self.is_strict = is_strict
        self._sentences: dict[str, None] = {}

    def found(self, path: str, problem: str, done: str) -> None:
        """Says that the value at `path` has a problem, and what was `done` about it.

        Raises BadInput if faults are refused.
        """
        if self.is_strict:
            raise BadInput(problem, path=path)
        self.mended(path, f"{problem}; {done}")

    def mended(self, path: str, what: str) -> None:
        """Says what was mended at `path`, which is no reason to refuse the row."""
        sentence = f"{_cut(path, PATH_CHARS_MAX)}: {what}".replace("\0", "\ufffd")
        self._sentences[sentence.encode(errors="replace").decode()] = None

    def take(self) -> list[str]:
        """The sentences so far, at most WARNINGS_MAX. The next row begins without any."""
        if not self._sentences:
            return []
        sentences, self._sentences = self._sentences, {}
        return _bounded(sentences)


def joined_warnings(below: Json, above: Json) -> list[Json]:
    """The sentences of both lists, each of them once, at most WARNINGS_MAX."""
    sentences = [
        one for part in (below, above) if isinstance(part, list)
        for one in part if isinstance(one, str)
    ]
    return [*_bounded(dict.fromkeys(sentences))]


def shown(value: Json) -> str:
    """The beginning of a value, for a sentence about it."""
    if isinstance(value, Unstorable) or not isinstance(value, str | list | dict | bool | None):
        return _cut(str(value), SHOWN_CHARS_MAX)   # a number, also one that JSON does not know
    try:
        text = orjson.dumps(value).decode()
    except TypeError:   # nested too deep for the writer of JSON
        text = f"a deeply nested {'list' if isinstance(value, list) else 'object'}"
    return _cut(text, SHOWN_CHARS_MAX)


def _bounded(sentences: Iterable[str]) -> list[str]:
    """At most WARNINGS_MAX sentences, of which the last says that there were more."""
    every = list(sentences)
    if len(every) <= WARNINGS_MAX and AND_MORE not in every:
        return every
    return [*[one for one in every if one != AND_MORE][: WARNINGS_MAX - 1], AND_MORE]


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
