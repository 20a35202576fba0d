"""The outbox and the ledger: claimed, recorded, superseded."""

from __future__ import annotations
