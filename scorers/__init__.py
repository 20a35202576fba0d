"""What turns a span into scores: autoevals by name, heuristic or judged by an LLM."""

from __future__ import annotations
