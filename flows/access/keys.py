"""API keys: made once, shown once, kept as a hash; each has a role and a reach."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from cachetools import TTLCache

from flows.access.principal import KeyRole, Principal
from flows.access.use_case import use_case
from spans.clock import Clock
from spans.errors import BadInput, NotFound, UserError
from spans.ids import OrgId, ProjectId

ID_CHARS = 12
SECRET_BYTES = 32
NO_HASH = bytes(32)
"""Compared against where a key's id is unknown, so that both cases take the same time."""

KEY = re.compile(r"sk-([A-Za-z0-9]{12})-([A-Za-z0-9_-]{43})")

TRUSTED_S = 3.0
"""How long a key is trusted without asking the store: a revoked one works no longer."""

TRUSTED_MAX = 10_000
"""Keys that are trusted at once, which bounds the memory that they take."""


class Unauthorized(UserError):
    """There is no key, or it is not valid. The message never says which."""


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


class KeyStore(Protocol):
    """Where keys are kept."""

    def add_key(self, key: ApiKey, secret_sha256: bytes) -> None: ...

    def find_key(self, key_id: str) -> tuple[Principal, bytes] | None:
        """Whose key this is and its secret's hash; None for a revoked or unknown one."""
        ...

    def list_keys(self, org_id: OrgId) -> list[ApiKey]:
        """The organisation's keys, newest first, revoked ones too."""
        ...

    def revoke_key(self, org_id: OrgId, key_id: str) -> bool:
        """Make the key invalid; False if there is none. Safe to repeat."""
        ...

    def touch_key(self, key_id: str) -> None:
        """Record that the key was used; at most one write a minute."""
        ...


class Keys:
    """The API keys of an organisation. Thread-safe.

    `random_text(n)` gives at least n characters of URL-safe base64, as `secrets` does.
    """

    def __init__(
        self, store: KeyStore, clock: Clock, *,
        random_text: Callable[[int], str] = secrets.token_urlsafe,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._clock = clock
        self._random_text = random_text
        self._trusted: TTLCache[str, Principal] = TTLCache(
            TRUSTED_MAX, TRUSTED_S, timer=seconds
        )
        self._lock = threading.Lock()   # cachetools' caches are not thread-safe

    @use_case()
    def create(
        self, principal: Principal, *, name: str, role: KeyRole,
        project_id: ProjectId | None = None,
    ) -> str:
        """Make a key and return its text, which is not kept anywhere.

        It is for `project_id` alone, or without one for every project of the organisation.
        Raises BadInput for an empty name, NotFound for a project beyond the caller's reach.
        """
        if not name.strip():
            raise BadInput("a key needs a name", path="name")
        if project_id is not None:
            principal.require_project(project_id)
        alphanumeric = re.sub(r"[^A-Za-z0-9]", "", self._random_text(ID_CHARS * 4))
        key_id, secret = alphanumeric[:ID_CHARS], self._random_text(SECRET_BYTES)
        self._store.add_key(
            ApiKey(
                id=key_id, org_id=principal.org_id, project_id=project_id, name=name,
                role=role, created=self._clock(),
            ),
            hashlib.sha256(secret.encode()).digest(),
        )
        return f"sk-{key_id}-{secret}"

    @use_case()
    def list(self, principal: Principal) -> list[ApiKey]:
        """The organisation's keys, newest first, revoked ones too."""
        return self._store.list_keys(principal.org_id)

    @use_case()
    def revoke(self, principal: Principal, key_id: str) -> None:
        """Make the key invalid. Safe to repeat. Raises NotFound."""
        if not self._store.revoke_key(principal.org_id, key_id):
            raise NotFound(f"there is no key {key_id!r}: see `tallyard keys list`")

    def trusted(self, text: str) -> Principal | None:
        """Whose key this is, if `authenticate` said so within the last TRUSTED_S.

        Takes no time: for event loops, which must not wait for the store.
        """
        with self._lock:
            return self._trusted.get(text)

    def authenticate(self, text: str | None) -> Principal:
        """Whose key this is; records that it was used.

        Raises Unauthorized, in the same words for every reason.
        """
        match = KEY.fullmatch(text) if text else None
        found = self._store.find_key(match[1]) if match else None
        secret_hash = hashlib.sha256((match[2] if match else "").encode()).digest()
        is_right = hmac.compare_digest(secret_hash, found[1] if found else NO_HASH)
        if text is None or found is None or not is_right:
            raise Unauthorized("Invalid API key: make one with `tallyard keys create`")
        principal = found[0]
        self._store.touch_key(principal.key_id)
        with self._lock:
            self._trusted[text] = principal
        return principal
