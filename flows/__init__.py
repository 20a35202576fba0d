"""The use cases, as plain functions over the Protocols that they need."""

from __future__ import annotations
