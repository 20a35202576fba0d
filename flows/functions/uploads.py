"""Uploads of bundles: code that a client packed with its libraries.

A client asks for a URL, which takes one bundle. The bytes are stored as they are sent. Only a
worker opens them, in a sandbox, when it needs the code.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from flows.access.keys import NO_HASH, SECRET_BYTES
from flows.access.principal import Principal
from flows.access.use_case import use_case
from scorers.functions.bundle import BundleStore
from spans.errors import BadInput, NotFound

GZIP = "gzip"
"""The Content-Encoding of a bundle: the JavaScript client compresses its one file."""

GZIP_BEGINS = b"\x1f\x8b"
"""The first bytes of every gzip file (RFC 1952). Neither a zip file nor text begins so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleUpload:
    """The place for one bundle. `secret` allows the upload; only a hash of it is stored."""

    id: UUID
    secret: str


class BundleUploads:
    """Accepts uploads of bundles. Thread-safe."""

    def __init__(
        self, store: BundleStore, *, new_id: Callable[[], UUID] = uuid.uuid4,
        random_text: Callable[[int], str] = secrets.token_urlsafe,
    ) -> None:
        self._store = store
        self._new_id = new_id
        self._random_text = random_text

    @use_case()
    def make(self, principal: Principal, org_id: str | None = None) -> BundleUpload:
        """Makes a place for one bundle.

        Raises NotFound if `org_id`, which a client may send, is another organisation.
        """
        if org_id not in {None, "", str(principal.org_id)}:
            raise NotFound(f"this key is for the organisation {principal.org_name!r}")
        upload = BundleUpload(id=self._new_id(), secret=self._random_text(SECRET_BYTES))
        self._store.add_bundle(principal.org_id, upload.id, _hash(upload.secret))
        return upload

    def check(self, upload: BundleUpload) -> None:
        """Checks an upload's secret, which takes the place of a key: there is no Principal.

        With it an entry point can refuse an upload before it reads the bytes. Raises NotFound,
        with the same message for an unknown bundle and for a wrong secret.
        """
        kept = self._store.secret_of(upload.id)
        is_right = hmac.compare_digest(_hash(upload.secret), kept or NO_HASH)
        if not is_right or kept is None:
            raise NotFound("no such upload: ask for one with POST /function/code")

    def fill(self, upload: BundleUpload, content: bytes, encoding: str | None) -> None:
        """Stores a bundle's bytes. Safe to repeat with equal bytes.

        Raises NotFound as `check` does, and BadInput for empty bytes, for other bytes than
        before, and for an encoding that the bytes do not have. Bundles are found by the hash of
        their bytes, so equal bytes must always have the same encoding.
        """
        self.check(upload)
        if not content:
            raise BadInput("the bundle is empty")
        if content.startswith(GZIP_BEGINS) != (encoding == GZIP):
            raise BadInput(
                "Content-Encoding and the body disagree: send `gzip` if and only if the "
                "bundle is gzipped"
            )
        if not self._store.fill(upload.id, content, encoding):
            raise BadInput("other bytes were uploaded here before: ask for another upload")


def read_encoding(text: str) -> str | None:
    """The Content-Encoding to store with the bytes; None for none. Raises BadInput."""
    name = text.strip().lower()
    if name in {"", "identity"}:
        return None
    if name != GZIP:
        raise BadInput(f"Content-Encoding {name[:40]!r}; send gzip, or none")
    return name


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
