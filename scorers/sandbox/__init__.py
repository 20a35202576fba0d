"""Runs users' own code in jails: starting them, sending records in, checking what comes out."""

from __future__ import annotations
