"""How commands print numbers of things, and texts of several lines."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def indented(text: str, by: int) -> str:
    """The text with the lines after its first one `by` spaces to the right."""
    return text.rstrip().replace("\n", "\n" + " " * by)
