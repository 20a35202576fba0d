"""Users' own scorers, run where they can harm nobody: jails, and what crosses their walls."""

from __future__ import annotations
