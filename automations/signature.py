"""The headers that say which message a request carries, and prove who sent it.

They are those of Standard Webhooks 1.0: HMAC-SHA256 over the id, the time and the exact bytes
of the body. While a secret is being replaced, the old and the new one both sign.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime

from automations.secrets import SIGNING_PREFIX
from spans.ids import DeliveryId


def message_id(delivery: DeliveryId) -> str:
    """The `webhook-id` of a delivery, the same in all of its attempts."""
    return f"msg_{delivery.hex}"


def signed_headers(
    delivery: DeliveryId, body: bytes, *, secrets: Sequence[str], now: datetime
) -> dict[str, str]:
    """The headers of one attempt, which is made `now`. Each secret adds a signature."""
    name, time_s = message_id(delivery), str(int(now.timestamp()))
    signed = f"{name}.{time_s}.".encode() + body
    return {
        "webhook-id": name,
        "webhook-timestamp": time_s,
        "webhook-signature": " ".join(f"v1,{_signature(each, signed)}" for each in secrets),
    }


def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(SIGNING_PREFIX))
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
