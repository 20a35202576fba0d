"""Reads and writes functions, their versions and bundles, and the outcomes of shadows."""

from __future__ import annotations
