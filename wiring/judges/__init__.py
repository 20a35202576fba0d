"""The files that say where models are asked, and what they cost."""

from __future__ import annotations
