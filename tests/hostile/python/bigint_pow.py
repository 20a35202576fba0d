"""One call of C that no signal interrupts."""

from __future__ import annotations


def handler():
    return len(str(pow(9, pow(9, 9))))
