"""Makes, once, the organisation and the key with which its operator begins."""

from __future__ import annotations

from pathlib import Path

from flows.access.keys import Keys, Unauthorized
from flows.access.organizations import Organizations
from flows.access.principal import KeyRole
from ops.data_dir import write_private

KEY_NAME = "local administrator"


def ensure_local_key(
    keys: Keys, organizations: Organizations, *, path: Path, org_name: str
) -> str:
    """The administrator's key that the file `path` holds.

    A new key is made and written there if there is no file, or the store does not know its
    key. Safe to repeat: a key that is still valid stays.
    """
    kept = path.read_text().strip() if path.exists() else ""
    try:
        keys.authenticate(kept)
    except Unauthorized:
        key = keys.create(
            organizations.administrator(org_name), name=KEY_NAME, role=KeyRole.ADMIN
        )
        write_private(path, key + "\n")
        return key
    return kept
