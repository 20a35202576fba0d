"""Run code while a module is only inspected: in decorators, defaults and annotations."""
from __future__ import annotations

import os


def strike(where=os.mkdir):
    raise SystemExit(where)


def handler(output: strike() = strike()):
    return 1.0
