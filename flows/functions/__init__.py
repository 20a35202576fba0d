"""Users' functions: push, change, promote, run for a caller, compare."""

from __future__ import annotations
