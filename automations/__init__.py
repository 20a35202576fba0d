"""What automations watch, when they send a notification, and how one reaches its receiver."""

from __future__ import annotations
