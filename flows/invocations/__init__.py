"""Invocations: requests whose client waits while a worker serves them."""

from __future__ import annotations
