"""Creates the organisation and its first API key, once."""

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
    """The administrator's key in the file `path`.

    If there is no file, or its key is not valid, a new key is created and written there. Safe
    to repeat: a valid key stays.
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
