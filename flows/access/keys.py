"""API keys: created, listed, revoked, and checked at each request.

A key's text is shown once, when it is created; only a hash of it is stored. A key has a role,
and is for one project or for all projects of its organisation.
"""

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
from flows.access.projects import Projects
from flows.access.use_case import use_case
from spans.clock import Clock
from spans.errors import BadInput, Forbidden, NotFound, UserError
from spans.ids import OrgId, ProjectId

ID_CHARS = 12
SECRET_BYTES = 32
NO_HASH = bytes(32)
"""Stands for the hash of an unknown key, so that a check takes the same time for it."""

KEY = re.compile(r"sk-([A-Za-z0-9]{12})-([A-Za-z0-9_-]{43})")

TRUSTED_S = 3.0
"""How long a key is trusted without asking the store, seconds. A revoked key works no longer
than this."""

TRUSTED_MAX = 10_000
"""Keys that are trusted at once, which bounds their memory."""


class Unauthorized(UserError):
    """A request has no valid key. The message does not say what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as it is listed, without its secret."""

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
        """The key's principal and the hash of its secret; None if revoked or unknown."""
        ...

    def list_keys(self, org_id: OrgId, only: ProjectId | None) -> list[ApiKey]:
        """The keys of the organisation, also revoked ones, newest first.

        `only` limits them to the keys for one project.
        """
        ...

    def revoke_key(self, org_id: OrgId, key_id: str, only: ProjectId | None) -> bool:
        """Makes the key invalid; False if there is none. Safe to repeat.

        With `only`, a key that is not for this project counts as none.
        """
        ...

    def touch_key(self, key_id: str) -> None:
        """Records that the key was used. Writes at most once a minute."""
        ...


class Keys:
    """The API keys of an organisation. Thread-safe.

    An administrator whose key is limited to a project sees, makes and revokes only keys that
    are limited to the same project.

    `random_text(n)` gives n random bytes as URL-safe base64, as `secrets.token_urlsafe` does.
    """

    def __init__(
        self, store: KeyStore, clock: Clock, *, projects: Projects,
        random_text: Callable[[int], str] = secrets.token_urlsafe,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._clock = clock
        self._projects = projects
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
        """Creates a key and returns its text, which is not stored anywhere.

        The key is for `project_id` only, or if that is None for every project of the
        organisation. Raises BadInput for an empty name, NotFound for a project that the
        caller's key does not reach, and Forbidden if the new key would reach more than it.
        """
        if not name.strip():
            raise BadInput("must not be empty", path="name")
        if project_id is not None:
            self._projects.get(principal, project_id)
        elif principal.project_id is not None:
            raise Forbidden(
                "this key is limited to one project; it makes keys for that project only: name "
                "the project of the new key"
            )
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
        """The keys that the caller may revoke, also revoked ones, newest first."""
        return self._store.list_keys(principal.org_id, principal.project_id)

    @use_case()
    def revoke(self, principal: Principal, key_id: str) -> None:
        """Makes the key invalid. Safe to repeat. Raises NotFound for an unknown key."""
        if not self._store.revoke_key(principal.org_id, key_id, principal.project_id):
            raise NotFound(f"there is no key {key_id!r}: see `tallyard keys list`")

    def trusted(self, text: str) -> Principal | None:
        """The key's principal, if `authenticate` found it in the last TRUSTED_S; else None.

        Never waits for the store, so an event loop may call it.
        """
        with self._lock:
            return self._trusted.get(text)

    def authenticate(self, text: str | None) -> Principal:
        """The principal of the key with this text. Records that the key was used.

        Raises Unauthorized, with the same message for a missing, unknown, wrong or revoked key.
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
