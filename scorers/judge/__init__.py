"""Scorers that ask an LLM: the client, the prompts, the classifiers."""

from __future__ import annotations
