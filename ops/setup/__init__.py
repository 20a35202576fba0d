"""What is made once: environments, system packages, the schema, the first key."""

from __future__ import annotations
