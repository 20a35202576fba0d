"""Users' functions: pushed, changed, tried, compared."""

from __future__ import annotations
