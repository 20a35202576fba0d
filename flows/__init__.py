"""The use cases: methods that take the caller first, over the Protocols that they need."""

from __future__ import annotations
