"""Compute a power in one C call that no signal interrupts."""

from __future__ import annotations


def handler():
    return len(str(pow(9, pow(9, 9))))
