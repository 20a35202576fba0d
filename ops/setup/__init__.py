"""Set-up: environments, system packages, the schema, the first API key, the example."""

from __future__ import annotations
