"""Requests that a client waits for, and their answers."""

from __future__ import annotations
