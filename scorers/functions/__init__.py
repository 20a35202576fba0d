"""Users' functions as data: what a function is, its versions, its files."""

from __future__ import annotations
