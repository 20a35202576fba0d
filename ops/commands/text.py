"""Formats counts, and texts of several lines, for the commands."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def indented(text: str, by: int) -> str:
    """The text with every line but the first moved `by` spaces to the right."""
    return text.rstrip().replace("\n", "\n" + " " * by)
