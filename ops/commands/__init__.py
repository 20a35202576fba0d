"""The commands of `tallyard`, one module each."""

from __future__ import annotations
