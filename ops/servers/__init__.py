"""The servers and processes of one machine: start them, watch them, stop them."""

from __future__ import annotations
