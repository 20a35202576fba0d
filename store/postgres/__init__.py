"""What several tables need: connections, COPY, versions, leases, pages, rows as JSON."""

from __future__ import annotations
