"""API keys: made once, shown once, kept as a hash; each has a role and a reach."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from spans.errors import BadInput, Forbidden, NotFound, UserError
from spans.ids import OrgId, ProjectId

ID_CHARS = 12
SECRET_BYTES = 32
NO_HASH = bytes(32)
"""Compared against where a key's id is unknown, so that both cases take the same time."""

KEY = re.compile(r"sk-([A-Za-z0-9]{12})-([A-Za-z0-9_-]{43})")


class KeyRole(StrEnum):
    """What a key may do. `ingest` logs, `read` looks, `admin` does everything."""

    INGEST = "ingest"
    READ = "read"
    ADMIN = "admin"


class Unauthorized(UserError):
    """No key, or none that we know: the message never says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as it is listed; its secret is not kept."""

    id: str
    org_id: OrgId
    project_id: ProjectId | None
    name: str
    role: KeyRole
    created: datetime
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who is asking: everything that a request may reach follows from this."""

    key_id: str
    org_id: OrgId
    org_name: str
    project_id: ProjectId | None
    role: KeyRole

    def require(self, *roles: KeyRole) -> None:
        """Raises Forbidden unless the key has one of the roles; admin has them all."""
        if self.role is not KeyRole.ADMIN and self.role not in roles:
            raise Forbidden(
                f"this key's role is {self.role.value}; this needs "
                f"{' or '.join((*roles, KeyRole.ADMIN))}"
            )

    def reaches(self, project_id: ProjectId) -> bool:
        """Whether the key is for this project, or for every project of its organisation."""
        return self.project_id is None or self.project_id == project_id

    def require_project(self, project_id: ProjectId) -> None:
        """Raises NotFound if the key is for another project alone."""
        if not self.reaches(project_id):
            raise NotFound("no such project")


class KeyStore(Protocol):
    """Where keys are kept."""

    def add_key(self, key: ApiKey, secret_sha256: bytes) -> None: ...

    def find_key(self, key_id: str) -> tuple[Principal, bytes] | None:
        """A key that is not revoked, and its secret's hash."""
        ...

    def list_keys(self, org_id: OrgId) -> list[ApiKey]: ...

    def revoke_key(self, org_id: OrgId, key_id: str) -> bool: ...

    def touch_key(self, key_id: str) -> None:
        """Note that the key was used, once a minute at most."""
        ...


def create_key(
    store: KeyStore,
    *,
    org_id: OrgId,
    project_id: ProjectId | None,
    name: str,
    role: KeyRole,
    now: datetime,
    random_text: Callable[[int], str],
) -> str:
    """Make a key and give its text, which is not kept anywhere.

    `random_text(n)` gives at least n characters of URL-safe base64, as `secrets` does.
    """
    if not name.strip():
        raise BadInput("a key needs a name", path="name")
    alphanumeric = re.sub(r"[^A-Za-z0-9]", "", random_text(ID_CHARS * 4))
    key_id, secret = alphanumeric[:ID_CHARS], random_text(SECRET_BYTES)
    store.add_key(
        ApiKey(
            id=key_id, org_id=org_id, project_id=project_id, name=name, role=role, created=now
        ),
        hashlib.sha256(secret.encode()).digest(),
    )
    return f"sk-{key_id}-{secret}"


def authenticate(store: KeyStore, text: str | None) -> Principal:
    """Whose key this is. Raises Unauthorized, in the same words for every reason."""
    match = KEY.fullmatch(text) if text else None
    found = store.find_key(match[1]) if match else None
    secret_hash = hashlib.sha256((match[2] if match else "").encode()).digest()
    if not hmac.compare_digest(secret_hash, found[1] if found else NO_HASH) or found is None:
        raise Unauthorized("Invalid API key: make one with `tallyard keys create`")
    return found[0]
