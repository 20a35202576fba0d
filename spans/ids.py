"""The types of identifiers, and how an id is derived from what it identifies."""

from __future__ import annotations

import hashlib
import uuid
from datetime import datetime
from string import hexdigits
from typing import NewType

HEX_DIGITS = frozenset(hexdigits)

OrgId = NewType("OrgId", uuid.UUID)
ProjectId = NewType("ProjectId", uuid.UUID)
ObjectId = NewType("ObjectId", uuid.UUID)      # a project (its logs), an experiment, a dataset
RuleId = NewType("RuleId", uuid.UUID)
FunctionId = NewType("FunctionId", uuid.UUID)
InvocationId = NewType("InvocationId", uuid.UUID)
OutcomeId = NewType("OutcomeId", uuid.UUID)
AutomationId = NewType("AutomationId", uuid.UUID)
DeliveryId = NewType("DeliveryId", uuid.UUID)
Xact = NewType("Xact", int)                    # `_xact_id`: the version of one write
RowSeq = NewType("RowSeq", int)                # a row's place in the order of arrival


def parse_uuid(text: str) -> uuid.UUID | None:
    """The UUID that `text` holds, or None if it holds none."""
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def uuid7(at: datetime, random_bytes: bytes) -> uuid.UUID:
    """A UUID of version 7, whose order is that of time: milliseconds, then ten random bytes."""
    milliseconds = int(at.timestamp() * 1000)
    drawn = int.from_bytes(random_bytes[:10], "big")
    number = milliseconds << 80 | 0x7 << 76 | (drawn >> 68 & 0xFFF) << 64
    return uuid.UUID(int=number | 0b10 << 62 | drawn & (1 << 62) - 1)


LARGEST_XACT = 2**63 - 1
XACT_DIGITS_MAX = 19
XACT_TOP_BITS = 0x0DE1
"""The upper 16 bits of every version: with them it has 19 digits until the year 2106."""

SHORT_XACT_CHARS = 16
SHORT_XACT_INVERSE = 1_522_336_535_492_693_385
"""The inverse, modulo 2^64, of the number that clients multiply a version with to show it."""


def read_xact(text: str) -> Xact | None:
    """The version that `text` names: in decimal digits, or in the 16 hex digits that clients
    show. None if it names none."""
    if not text.isascii():
        return None
    if len(text) == SHORT_XACT_CHARS and set(text) <= HEX_DIGITS:
        version = int(text, 16) * SHORT_XACT_INVERSE % 2**64
        if version >> 48 == XACT_TOP_BITS:
            return Xact(version)
    if not text.isdigit() or len(text) > XACT_DIGITS_MAX or int(text) > LARGEST_XACT:
        return None
    return Xact(int(text))


def derived_id(*parts: str) -> uuid.UUID:
    """A UUID computed from `parts` alone, so that work that is done twice writes one row.

    It is the first 128 bits of SHA-256 over the parts, with NUL, which no id contains, between
    them. The function `derived_id` of the database gives the same.
    """
    text = "\0".join(parts)
    return uuid.UUID(bytes=hashlib.sha256(text.encode()).digest()[:16])
