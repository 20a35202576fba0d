"""How a child answers: one frame when it is ready, then one for each record, in order.

A frame is three numbers of four bytes, most significant first (bytes of log that were dropped,
length of the log, length of the body), the log, and the body: a JSON object with `result` or
`error`. The worker believes none of it: all is checked there.
"""

from __future__ import annotations

import json
import os
import struct

from scorers.sandbox.inside.child import RESULT, TEXT

HEADER = struct.Struct(">III")
MESSAGE_CHARACTERS = 2000
NAME_CHARACTERS = 200
_COUNT_MAX = 2**32 - 1


def read_text() -> bytes:
    """The request, as JSON; closes its descriptor."""
    size = os.fstat(TEXT).st_size
    parts = []
    offset = 0
    while offset < size:
        parts.append(os.pread(TEXT, size - offset, offset))
        offset += len(parts[-1])
    os.close(TEXT)
    return b"".join(parts)


def ready() -> None:
    """Say that the code is loaded: what follows is records."""
    write({"result": True})


def encoded(body: object) -> bytes:
    """The body as JSON. Raises ValueError or TypeError for what JSON cannot hold."""
    text = json.dumps(body, default=_plain, allow_nan=False, ensure_ascii=False)
    return text.encode()


def write(body: object, log: bytes = b"", dropped: int = 0) -> None:
    """Encode and send."""
    send(encoded(body), log, dropped)


def send(body: bytes, log: bytes = b"", dropped: int = 0) -> None:
    """Send one frame whole."""
    left = memoryview(HEADER.pack(min(dropped, _COUNT_MAX), len(log), len(body)) + log + body)
    while left:
        left = left[os.write(RESULT, left) :]


def described(error: BaseException, kind: str = "exception") -> dict[str, str]:
    """An exception as a body's `error`. The message may itself be code, and may fail."""
    try:
        message = str(error)[:MESSAGE_CHARACTERS]
    except BaseException:  # noqa: BLE001 a message that raises is no message
        message = "(its message cannot be made)"
    # A NUL is no text that can be stored, nor is half a surrogate pair.
    message = message.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    name = type(error).__name__[:NAME_CHARACTERS]
    return {"kind": kind, "message": f"{name}: {message}" if message else name}


def _plain(value: object) -> object:
    """What JSON has no form for: scores, models and numbers of other libraries."""
    for name in ("as_dict", "model_dump", "item"):
        method = getattr(value, name, None)
        if callable(method):
            return method()
    if hasattr(value, "score"):
        return {
            name: getattr(value, name)
            for name in ("score", "name", "metadata")
            if getattr(value, name, None) is not None or name == "score"
        }
    raise TypeError(f"a result holds JSON values and scores, and not {type(value).__name__}")
