"""The use cases: each verb of the product, over the Protocols that it needs."""

from __future__ import annotations
