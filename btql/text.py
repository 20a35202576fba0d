"""Case, words and LIKE patterns of strings, by rules that PostgreSQL can follow exactly.

Only ASCII letters change case: so does PostgreSQL's lower() under the collation "C", on every
machine. For other letters its answer depends on the machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable

# What stands between words: every ASCII character but letters and digits, the signs of
# Latin-1, general punctuation (dashes, curly quotes, wide spaces) and CJK punctuation.
SEPARATORS = r"\x01-/:-@\[-`{-\u00bf\u00d7\u00f7\u2000-\u206f\u3000-\u303f"
_WORD = re.compile(rf"[^\x00{SEPARATORS}]+")


def lower_ascii(text: str) -> str:
    """`text` with A-Z lowered, and nothing else."""
    return text.lower() if text.isascii() else text.encode().lower().decode()


def upper_ascii(text: str) -> str:
    """`text` with a-z raised, and nothing else."""
    return text.upper() if text.isascii() else text.encode().upper().decode()


def words_of(text: str) -> tuple[str, ...]:
    """The different words of `text`, in lower case and sorted."""
    return tuple(sorted(set(_WORD.findall(lower_ascii(text)))))


def word_pattern(word: str) -> str:
    """A regular expression, for Python and PostgreSQL alike, that finds `word` as a word.

    Words hold no character that has a meaning in a regular expression.
    """
    return f"(^|[{SEPARATORS}]){word}($|[{SEPARATORS}])"


def word_test(words: tuple[str, ...]) -> Callable[[str], bool]:
    """A test of whether a text, in lower case, has all of `words`."""
    tests = [(word, re.compile(word_pattern(word)).search) for word in words]

    def has_words(text: str) -> bool:
        # `in` is far faster than the expression, and most texts lack the word.
        return all(word in text and search(text) for word, search in tests)

    return has_words


def like_test(pattern: str) -> Callable[[str], bool]:
    """A test of whether a whole text fits a LIKE pattern.

    % stands for any characters, _ for one; \\ makes the next character stand for itself. The
    parts between % are found from the left, each at the first place where it fits, so that the
    time never exceeds the length of the pattern times that of the text.
    """
    parts = [_LikePart(part) for part in _runs(pattern)]
    if len(parts) == 1:
        return parts[0].fits
    first, *middle, last = parts

    def fits(text: str) -> bool:
        end = len(text) - last.length
        start = first.length
        if start > end or not first.fits(text[:start]) or not last.fits(text[end:]):
            return False
        for part in middle:
            found = part.find(text, start, end)
            if found < 0:
                return False
            start = found + part.length
        return True

    return fits


def escape_like(pattern: str) -> str:
    """The pattern with a lone backslash at its end doubled: PostgreSQL refuses such a one."""
    return pattern if _trailing_backslashes(pattern) % 2 == 0 else pattern + "\\"


def _trailing_backslashes(pattern: str) -> int:
    return len(pattern) - len(pattern.rstrip("\\"))


class _LikePart:
    """The characters of a pattern between two %; None stands for any one character."""

    def __init__(self, characters: list[str | None]) -> None:
        self.length = len(characters)
        self._text = "".join(one or "" for one in characters)
        self._search: re.Pattern[str] | None = None
        if None in characters:
            self._search = re.compile(
                "".join("." if one is None else re.escape(one) for one in characters), re.DOTALL
            )

    def fits(self, text: str) -> bool:
        if self._search:
            return self._search.fullmatch(text) is not None
        return text == self._text

    def find(self, text: str, start: int, end: int) -> int:
        if self._search:
            found = self._search.search(text, start, end)
            return found.start() if found else -1
        return text.find(self._text, start, end)


def _runs(pattern: str) -> list[list[str | None]]:
    runs: list[list[str | None]] = [[]]
    characters = iter(pattern)
    for one in characters:
        if one == "%":
            runs.append([])
        else:
            literal = next(characters, "\\") if one == "\\" else one
            runs[-1].append(None if one == "_" else literal)
    return runs
