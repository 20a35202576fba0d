"""Who may use what: API keys, and the projects that they reach."""

from __future__ import annotations
