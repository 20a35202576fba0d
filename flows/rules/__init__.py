"""Rules: make, change, and apply from a file."""

from __future__ import annotations
