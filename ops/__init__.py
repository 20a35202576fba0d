"""The command line, the embedded servers and the supervisor."""

from __future__ import annotations
