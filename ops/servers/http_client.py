"""One HTTP request to a server of ours, past any proxy that the environment names."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from urllib.parse import urlsplit

HttpError = http.client.HTTPException
"""An answer that is not HTTP, or none."""


def request(
    method: str, url: str, path: str, *, timeout_s: float, body: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, bytes]:
    """The answer's status and body. Raises OSError or HttpError if there is no answer."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(
        parts.hostname or "", parts.port, timeout=timeout_s
    )
    try:
        connection.request(method, path, body=body, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
