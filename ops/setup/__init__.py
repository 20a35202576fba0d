"""Set-up of the data: the schema, the first API key, the example."""

from __future__ import annotations
