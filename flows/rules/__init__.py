"""Rules: make, change, apply from a file, and run on stored rows."""

from __future__ import annotations
