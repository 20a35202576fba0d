"""Mustache templates over JSON: values and sections, and nothing that could run.

Read by ourselves, because the library that autoevals brings does things that a template of a
stranger must not: it loads partials from files, reaches Python attributes by a dotted name,
and renders without a bound. There are no partials, no lambdas and no other delimiters here,
no HTML escaping, and what comes from the data stays told apart from the template's own words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn, TypeAlias

from spans.errors import BadInput
from spans.json import Json

TEMPLATE_CHARACTERS_MAX = 100_000
TAGS_MAX = 1000
NESTING_MAX = 16
TEMPLATES_KEPT = 256

STEPS_MAX = 100_000
"""Nodes that one rendering visits: sections in sections over long lists multiply."""

INDEX_DIGITS_MAX = 9

_OPENING, _CLOSING = "{{", "}}"
_SIGILS = frozenset("#^/!>=&{")
_ALONE = frozenset("#^/!")
"""Tags that show nothing: on a line of their own, they take the line with them."""


@dataclass(frozen=True, slots=True)
class Words:
    """The template's own text."""

    text: str


@dataclass(frozen=True, slots=True)
class Value:
    """Where a value of the data goes. An empty `path` is the current item, `{{.}}`."""

    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """What stands once for a value that is there, and for each item of a list; inverted, what
    stands where there is none."""

    path: tuple[str, ...]
    is_inverted: bool
    body: tuple[Node, ...]


Node: TypeAlias = Words | Value | Section
Template: TypeAlias = tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Data:
    """A value that a rendering put in, still as JSON."""

    value: Json


Piece: TypeAlias = Words | Data


class TooManySteps(Exception):
    """The rendering visits more than STEPS_MAX nodes."""


@lru_cache(maxsize=TEMPLATES_KEPT)
def parse(text: str, *, where: str | None = None) -> Template:
    """The template. Raises BadInput at `where`, with line and column, for what is none."""
    if len(text) > TEMPLATE_CHARACTERS_MAX:
        raise BadInput(f"longer than {TEMPLATE_CHARACTERS_MAX} characters", path=where)
    return _Reading(text, where).template()


def names(template: Template) -> frozenset[str]:
    """The first part of every name in the template: what it may ask of the data."""
    found: set[str] = set()
    for node in template:
        match node:
            case Value(path) if path:
                found.add(path[0])
            case Section(path, _, body):
                found |= {*path[:1], *names(body)}
    return frozenset(found)


def render(template: Template, data: dict[str, Json]) -> Iterator[Piece]:
    """The template's words and the data's values, in order; what is missing or null is left
    out. A section's condition sees the value itself: null, false, 0, "", [] and {} are none.

    A name is looked up in the innermost section first. Raises TooManySteps.
    """
    return _Rendering().pieces(template, (data,))


@dataclass(slots=True)
class _Rendering:
    steps: int = 0

    def pieces(self, template: Template, scopes: tuple[Json, ...]) -> Iterator[Piece]:
        for node in template:
            self.steps += 1
            if self.steps > STEPS_MAX:
                raise TooManySteps
            match node:
                case Words():
                    yield node
                case Value(path):
                    if (value := _lookup(path, scopes)) is not None:
                        yield Data(value)
                case Section():
                    for scope in _scopes_of(node, scopes):
                        self.steps += 1
                        yield from self.pieces(node.body, scope)


def _scopes_of(
    section: Section, scopes: tuple[Json, ...]
) -> Iterator[tuple[Json, ...]]:
    """What the section's body is rendered with, once for each time that it is shown."""
    value = _lookup(section.path, scopes)
    if section.is_inverted:
        if not value:
            yield scopes
    elif isinstance(value, list):
        for item in value:
            yield (item, *scopes)
    elif value:
        yield (value, *scopes)


def _lookup(path: tuple[str, ...], scopes: Sequence[Json]) -> Json:
    if not path:
        return scopes[0]
    for scope in scopes:
        if isinstance(scope, dict) and path[0] in scope:
            return _within(scope, path)
    return None


def _within(value: Json, path: tuple[str, ...]) -> Json:
    for part in path:
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isdecimal() and len(part) <= INDEX_DIGITS_MAX:
            value = value[int(part)] if int(part) < len(value) else None
        else:
            return None
    return value


@dataclass(frozen=True, slots=True)
class _Tag:
    """What stands between {{ and }}, from `begin` to `end` in the text."""

    sigil: str
    name: str
    begin: int
    end: int


class _Reading:
    """One pass over the text, with a stack of the sections that are open."""

    def __init__(self, text: str, where: str | None) -> None:
        self._text = text
        self._where = where
        self._open: list[_Tag] = []
        self._bodies: list[list[Node]] = [[]]

    def template(self) -> Template:
        position = count = 0
        while (tag := self._next(position)) is not None:
            count += 1
            if count > TAGS_MAX:
                self._refuse(tag.begin, f"more than {TAGS_MAX} tags")
            before, after = self._around(tag)
            self._words(position, before)
            self._take(tag)
            position = after
        self._words(position, len(self._text))
        if self._open:
            left = self._open[-1]
            self._refuse(left.begin, f"{{{{{left.sigil}{left.name:.99}}}}} is never closed")
        return tuple(self._bodies[0])

    def _next(self, position: int) -> _Tag | None:
        begin = self._text.find(_OPENING, position)
        if begin < 0:
            return None
        inner = begin + len(_OPENING)
        sigil = self._text[inner : inner + 1]
        sigil = sigil if sigil in _SIGILS else ""
        closing = "}" + _CLOSING if sigil == "{" else _CLOSING
        end = self._text.find(closing, inner)
        if end < 0:
            self._refuse(begin, f"a tag that is never closed: {closing} is missing")
        name = self._text[inner + len(sigil) : end].strip()
        return _Tag(sigil, name, begin, end + len(closing))

    def _take(self, tag: _Tag) -> None:
        match tag.sigil:
            case "" | "&" | "{":
                self._bodies[-1].append(Value(self._path(tag)))
            case "#" | "^":
                if len(self._open) == NESTING_MAX:
                    self._refuse(tag.begin, f"sections nested deeper than {NESTING_MAX}")
                self._path(tag)   # read for its check
                self._open.append(tag)
                self._bodies.append([])
            case "/":
                self._close(tag)
            case ">":
                self._refuse(tag.begin, f"there are no partials: {{{{>{tag.name:.99}}}}}")
            case "=":
                self._refuse(tag.begin, "the delimiters are {{ and }}, and cannot be changed")

    def _close(self, tag: _Tag) -> None:
        if not self._open:
            self._refuse(tag.begin, f"{{{{/{tag.name:.99}}}}} closes what was never opened")
        opened = self._open.pop()
        if opened.name != tag.name:
            self._refuse(
                tag.begin, f"{{{{/{tag.name:.99}}}}} stands where {{{{/{opened.name}}}}} is due"
            )
        body = tuple(self._bodies.pop())
        self._bodies[-1].append(Section(self._path(opened), opened.sigil == "^", body))

    def _path(self, tag: _Tag) -> tuple[str, ...]:
        if tag.name == ".":
            return ()
        parts = tuple(tag.name.split("."))
        if not all(parts) or any(character in tag.name for character in "{}\n"):
            self._refuse(tag.begin, f"{tag.name!r:.99} is no name")
        return parts

    def _around(self, tag: _Tag) -> tuple[int, int]:
        """Where the text before the tag ends, and the text after it begins."""
        if tag.sigil not in _ALONE:
            return tag.begin, tag.end
        line = self._text.rfind("\n", 0, tag.begin) + 1
        newline = self._text.find("\n", tag.end)
        after = len(self._text) if newline < 0 else newline
        if self._text[line : tag.begin].strip() or self._text[tag.end : after].strip():
            return tag.begin, tag.end
        return line, min(after + 1, len(self._text))

    def _words(self, begin: int, end: int) -> None:
        if begin < end:
            self._bodies[-1].append(Words(self._text[begin:end]))

    def _refuse(self, at: int, problem: str) -> NoReturn:
        line = self._text.count("\n", 0, at) + 1
        column = at - self._text.rfind("\n", 0, at)
        raise BadInput(f"line {line}, column {column}: {problem}", path=self._where)
