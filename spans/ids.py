"""Identifiers, and how the derived ones are made."""

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


def parse_uuid(text: str) -> uuid.UUID | None:
    """The UUID that the text writes; None where it writes none, and so can name nothing."""
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def derived_id(*parts: str) -> uuid.UUID:
    """A UUID that is a function of `parts`: the same work, done twice, writes the same row.

    128 bits of BLAKE2b over the parts, separated by NUL, which no id contains.
    """
    text = "\0".join(parts)
    return uuid.UUID(bytes=hashlib.blake2b(text.encode(), digest_size=16).digest())
