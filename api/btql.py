"""POST /btql."""

from __future__ import annotations

ROUTES: list[object] = []
