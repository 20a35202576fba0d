"""What every table shares: connections, COPY, versions, leases, paging, a row's forms."""

from __future__ import annotations
