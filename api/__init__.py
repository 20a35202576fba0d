"""The HTTP API: each endpoint parses a request, calls one use case, and renders its result."""

from __future__ import annotations
