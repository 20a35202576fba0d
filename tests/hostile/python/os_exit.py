"""End without an answer."""

from __future__ import annotations

import os


def handler():
    os._exit(0)
