"""What a process holds, and how that ends: leases in memory."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(slots=True, kw_only=True)
class Lease:
    """Something that one process works on at a time.

    `fence` is the number of its claims, and `deaths` that of the processes that died of it.
    """

    attempts: int = 0
    deaths: int = 0
    fence: int = 0
    owner: str | None = None
    until: datetime | None = None

    def claim(self, owner: str, *, now: datetime, lease_s: float) -> None:
        self.attempts += 1
        self.fence += 1
        self.owner = owner
        self.until = now + timedelta(seconds=lease_s)

    def renew(self, *, now: datetime, lease_s: float) -> None:
        self.until = now + timedelta(seconds=lease_s)

    def release(self, *, died: bool = False) -> None:
        self.owner = self.until = None
        self.deaths += died

    def has_run_out(self, now: datetime) -> bool:
        return self.until is not None and self.until < now
