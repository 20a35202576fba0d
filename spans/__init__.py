"""The vocabulary: what every other room speaks of, and no room may redefine."""

from __future__ import annotations
