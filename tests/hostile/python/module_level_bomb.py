"""Never reach the handler: the module itself does not end."""

from __future__ import annotations

while True:
    pass


def handler():
    return 1.0
