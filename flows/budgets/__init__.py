"""The use cases of budgets."""

from __future__ import annotations
