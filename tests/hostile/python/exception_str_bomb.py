"""Exceptions that do harm when they are described."""

from __future__ import annotations


class Raises(Exception):
    def __str__(self):
        raise Raises


class Hangs(Exception):
    def __str__(self):
        while True:
            pass

    __repr__ = __str__


class Huge(Exception):
    def __str__(self):
        return "x" * 100_000_000


class Wrong(Exception):
    def __str__(self):
        return 1.0

    __repr__ = __str__


def chained():
    last = ValueError("first")
    for number in range(20_000):
        following = ValueError(str(number))
        following.__cause__ = last
        last = following
    return last


def handler(metadata):
    match metadata["variant"]:
        case 0:
            raise Raises
        case 1:
            raise Huge
        case 2:
            raise Wrong
        case 3:
            raise chained()
        case 4:
            raise type("N" * 1_000_000, (Exception,), {})("long name")
        case 5:
            raise ExceptionGroup("group", [ValueError(str(n)) for n in range(10_000)])
        case _:
            raise Hangs
