"""Measurements of Tallyard beside its baselines: `python -m benchmarks --help`."""

from __future__ import annotations
