"""A regular expression that backtracks for ever, in C, holding the interpreter's lock."""

from __future__ import annotations

import re


def handler():
    re.match(r"(a|a|aa)+$", "a" * 60 + "!")
    return 1.0
