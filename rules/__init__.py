"""Which spans a rule selects: target, filter, sampling."""

from __future__ import annotations
