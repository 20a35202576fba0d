"""The processes of one machine: started, watched, stopped."""

from __future__ import annotations
