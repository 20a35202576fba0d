"""Functions, their versions, their bundles, their shadows."""

from __future__ import annotations
