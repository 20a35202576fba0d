"""The vocabulary of spans, scores and outcomes, which every other folder uses."""

from __future__ import annotations
