"""Writes a child's answers: one frame when it is ready, then one for each record, in order.

A frame begins with three numbers of four bytes each, most significant byte first: how many
bytes of log were dropped, the length of the log, and the length of the body. Then come the log
and the body, which is a JSON object with `result` or `error`. The worker trusts none of it and
checks everything (`scorers.sandbox.frame_reader`).
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
    """The request as JSON. This closes its descriptor, so it can be read only once."""
    size = os.fstat(TEXT).st_size
    parts = []
    offset = 0
    while offset < size:
        parts.append(os.pread(TEXT, size - offset, offset))
        offset += len(parts[-1])
    os.close(TEXT)
    return b"".join(parts)


def ready() -> None:
    """Send the first frame, which says that the code is loaded."""
    write({"result": True})


def encoded(body: object) -> bytes:
    """The body as JSON. Raises ValueError or TypeError for what JSON cannot hold."""
    return json.dumps(body, allow_nan=False, ensure_ascii=False).encode()


def write(body: object, log: bytes = b"", dropped: int = 0) -> None:
    """Send one frame with this body, encoded as JSON."""
    send(encoded(body), log, dropped)


def send(body: bytes, log: bytes = b"", dropped: int = 0) -> None:
    """Send one frame with this body, which is JSON already."""
    left = memoryview(HEADER.pack(min(dropped, _COUNT_MAX), len(log), len(body)) + log + body)
    while left:
        left = left[os.write(RESULT, left) :]


def described(error: BaseException, kind: str = "exception") -> dict[str, str]:
    """The exception in the form of a body's `error`. Making its message may itself raise."""
    try:
        message = str(error)[:MESSAGE_CHARACTERS]
    except BaseException:  # noqa: BLE001 its own code runs here, too
        message = "(its message cannot be made)"
    message = storable(message)
    name = type(error).__name__[:NAME_CHARACTERS]
    return {"kind": kind, "message": f"{name}: {message}" if message else name}


def storable(text: str) -> str:
    """The text with NUL and lone surrogates, which cannot be stored, as escapes."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
