"""The types of identifiers, and how an id is derived from what it identifies."""

from __future__ import annotations

import hashlib
import uuid
from typing import NewType

OrgId = NewType("OrgId", uuid.UUID)
ProjectId = NewType("ProjectId", uuid.UUID)
ObjectId = NewType("ObjectId", uuid.UUID)      # a project (its logs), an experiment, a dataset
RuleId = NewType("RuleId", uuid.UUID)
FunctionId = NewType("FunctionId", uuid.UUID)
InvocationId = NewType("InvocationId", uuid.UUID)
OutcomeId = NewType("OutcomeId", uuid.UUID)
Xact = NewType("Xact", int)                    # `_xact_id`: the version of one write
RowSeq = NewType("RowSeq", int)                # a row's place in the order of arrival


def parse_uuid(text: str) -> uuid.UUID | None:
    """The UUID that `text` holds, or None if it holds none."""
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def derived_id(*parts: str) -> uuid.UUID:
    """A UUID computed from `parts` alone, so that work that is done twice writes one row.

    It is the first 128 bits of SHA-256 over the parts, with NUL, which no id contains, between
    them. The function `derived_id` of the database gives the same.
    """
    text = "\0".join(parts)
    return uuid.UUID(bytes=hashlib.sha256(text.encode()).digest()[:16])
