"""The command `tallyard`, the embedded servers, the supervisor, and set-up."""

from __future__ import annotations
