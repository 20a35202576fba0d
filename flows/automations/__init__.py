"""Automations: evaluates them over the logs, and delivers what they send."""

from __future__ import annotations
