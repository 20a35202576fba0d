"""What is made once: the organisation, and the key with which its operator begins."""

from __future__ import annotations

import secrets
import uuid
from datetime import datetime
from pathlib import Path
from typing import Protocol

from flows.access.keys import KeyRole, KeyStore, Unauthorized, authenticate, create_key
from ops.data_dir import write_private
from spans.ids import OrgId

KEY_NAME = "local administrator"


class Organizations(Protocol):
    """What the first start needs of the store, beside its keys."""

    def ensure_organization(self, org_id: OrgId, name: str) -> OrgId:
        """The organisation of this name, made with `org_id` if there is none."""
        ...


def ensure_local_key(
    keys: KeyStore, organizations: Organizations, *, path: Path, org_name: str, now: datetime
) -> str:
    """The administrator's key kept in `path`; made where there is none or the store forgot it.

    Safe to repeat: a key that is still valid stays.
    """
    kept = path.read_text().strip() if path.exists() else None
    try:
        authenticate(keys, kept)
    except Unauthorized:
        kept = None
    if kept is not None:
        return kept
    key = create_key(
        keys,
        org_id=organizations.ensure_organization(OrgId(uuid.uuid4()), org_name),
        project_id=None,
        name=KEY_NAME,
        role=KeyRole.ADMIN,
        now=now,
        random_text=secrets.token_urlsafe,
    )
    write_private(path, key + "\n")
    return key
