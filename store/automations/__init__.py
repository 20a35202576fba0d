"""Tables of automations, of what their evaluations found, and of deliveries."""

from __future__ import annotations
