"""Builds services and use cases from settings. Nothing else reads the environment."""

from __future__ import annotations
