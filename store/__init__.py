"""The only room with SQL and Redis commands."""

from __future__ import annotations
