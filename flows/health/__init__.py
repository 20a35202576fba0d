"""Readiness and measurements, for operators."""

from __future__ import annotations
