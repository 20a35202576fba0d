"""Settings -> services; the only reader of the environment."""

from __future__ import annotations
