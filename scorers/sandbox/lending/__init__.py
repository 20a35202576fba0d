"""Lends users' code a model: which calls, at what cost."""

from __future__ import annotations
