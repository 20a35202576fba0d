"""Lets users' code call an LLM: which calls it may make, and what they may cost."""

from __future__ import annotations
