"""Reserved for schedules and alerts over scored spans. There is no code yet."""

from __future__ import annotations
