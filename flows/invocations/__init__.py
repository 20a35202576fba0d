"""Requests that a client waits for: asked, served by workers, answered."""

from __future__ import annotations
