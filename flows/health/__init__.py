"""What an operator asks: whether everything answers, and what was counted."""

from __future__ import annotations
