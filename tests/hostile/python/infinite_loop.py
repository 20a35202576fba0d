"""Never answer."""

from __future__ import annotations


def handler():
    while True:
        pass
