"""Parses and renders mustache templates over JSON: values and sections, and no code.

We parse them ourselves because the library that comes with autoevals does things that a
stranger's template must not do: it loads partials from files, reaches Python attributes by a
dotted name, and renders without a limit. Here are no partials, lambdas, other delimiters or
HTML escaping. Rendering keeps the template's own text apart from the values of the data.
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
"""Most nodes that one rendering visits. Nested sections over long lists multiply them."""

INDEX_DIGITS_MAX = 9

_OPENING, _CLOSING = "{{", "}}"
_SIGILS = frozenset("#^/!>=&{")
_ALONE = frozenset("#^/!")
"""Tags that show nothing. If one stands alone on a line, the whole line is left out."""


@dataclass(frozen=True, slots=True)
class Words:
    """A stretch of the template's own text."""

    text: str


@dataclass(frozen=True, slots=True)
class Value:
    """A tag that a value of the data replaces. An empty `path` is the current item, `{{.}}`."""

    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """A part that is shown once if the value is there, and once for each item of a list.

    An inverted section is shown if the value is not there.
    """

    path: tuple[str, ...]
    is_inverted: bool
    body: tuple[Node, ...]


Node: TypeAlias = Words | Value | Section
Template: TypeAlias = tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Data:
    """A value that a rendering puts in a tag's place, still as JSON."""

    value: Json


Piece: TypeAlias = Words | Data


class TooManySteps(Exception):
    """The rendering visits more than STEPS_MAX nodes."""


@lru_cache(maxsize=TEMPLATES_KEPT)
def parse(text: str, *, where: str | None = None) -> Template:
    """The template that the text holds.

    Raises BadInput, with the path `where` and the line and column, if the text is not valid.
    """
    if len(text) > TEMPLATE_CHARACTERS_MAX:
        raise BadInput(f"must be at most {TEMPLATE_CHARACTERS_MAX} characters", path=where)
    return _Parser(text, where).template()


def names(template: Template) -> frozenset[str]:
    """The first part of each name in the template: the keys of the data that it may use."""
    found: set[str] = set()
    for node in template:
        match node:
            case Value(path) if path:
                found.add(path[0])
            case Section(path, _, body):
                found |= {*path[:1], *names(body)}
    return frozenset(found)


def render(template: Template, data: dict[str, Json]) -> Iterator[Piece]:
    """The template's words and the data's values, in order.

    A value that is missing or null is left out. For a section, null, false, 0, "", [] and {}
    count as not there. A name is looked up in the innermost section first, then outwards.
    Raises TooManySteps while iterating.
    """
    return _Renderer().pieces(template, (data,))


@dataclass(slots=True)
class _Renderer:
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
    """The scopes to render the section's body with: one for each time that it is shown."""
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
    """A tag, with its braces at `begin` to `end` of the text."""

    sigil: str
    name: str
    begin: int
    end: int


class _Parser:
    """Parses a text in one pass, with a stack of the open sections."""

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
            self._refuse(begin, f"the tag is never closed: {closing} is missing")
        name = self._text[inner + len(sigil) : end].strip()
        return _Tag(sigil, name, begin, end + len(closing))

    def _take(self, tag: _Tag) -> None:
        match tag.sigil:
            case "" | "&" | "{":
                self._bodies[-1].append(Value(self._path(tag)))
            case "#" | "^":
                if len(self._open) == NESTING_MAX:
                    self._refuse(tag.begin, f"sections nested deeper than {NESTING_MAX}")
                self._path(tag)   # raises BadInput for a bad name
                self._open.append(tag)
                self._bodies.append([])
            case "/":
                self._close(tag)
            case ">":
                self._refuse(
                    tag.begin, f"partials are not supported: {{{{>{tag.name:.99}}}}}"
                )
            case "=":
                self._refuse(tag.begin, "the delimiters {{ and }} cannot be changed")

    def _close(self, tag: _Tag) -> None:
        if not self._open:
            self._refuse(
                tag.begin, f"{{{{/{tag.name:.99}}}}} closes a section that was never opened"
            )
        opened = self._open.pop()
        if opened.name != tag.name:
            self._refuse(
                tag.begin, f"{{{{/{tag.name:.99}}}}} must be {{{{/{opened.name}}}}}"
            )
        body = tuple(self._bodies.pop())
        self._bodies[-1].append(Section(self._path(opened), opened.sigil == "^", body))

    def _path(self, tag: _Tag) -> tuple[str, ...]:
        if tag.name == ".":
            return ()
        parts = tuple(tag.name.split("."))
        if not all(parts) or any(character in tag.name for character in "{}\n"):
            self._refuse(tag.begin, f"{tag.name!r:.99} is not a name")
        return parts

    def _around(self, tag: _Tag) -> tuple[int, int]:
        """Where the text before the tag ends and where the text after it begins.

        For a tag that shows nothing and stands alone on its line, they are the line's ends.
        """
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
