"""Bundles: code that a client packed with its libraries, uploaded to a URL made for it.

The bytes are kept as they came. They are opened in a jail alone, once a worker needs them.
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
"""RFC 1952; neither a zip nor text begins so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleUpload:
    """Where a bundle is to be uploaded; `secret` is told once, and kept as a hash."""

    id: UUID
    secret: str


class BundleUploads:
    """Takes in bundles. Thread-safe."""

    def __init__(
        self, store: BundleStore, *, new_id: Callable[[], UUID] = uuid.uuid4,
        random_text: Callable[[int], str] = secrets.token_urlsafe,
    ) -> None:
        self._store = store
        self._new_id = new_id
        self._random_text = random_text

    @use_case()
    def make(self, principal: Principal, org_id: str | None = None) -> BundleUpload:
        """A place for one bundle. Raises NotFound where `org_id`, as the client says it, is
        another organisation's."""
        if org_id not in {None, "", str(principal.org_id)}:
            raise NotFound(f"this key is for the organisation {principal.org_name!r}")
        upload = BundleUpload(id=self._new_id(), secret=self._random_text(SECRET_BYTES))
        self._store.add_bundle(principal.org_id, upload.id, _hash(upload.secret))
        return upload

    def check(self, upload: BundleUpload) -> None:
        """Allow an upload by its secret; there is no key, and so no Principal.

        Raises NotFound, in the same words for no such bundle and a wrong secret.
        """
        kept = self._store.secret_of(upload.id)
        is_right = hmac.compare_digest(_hash(upload.secret), kept or NO_HASH)
        if not is_right or kept is None:
            raise NotFound("no such upload: ask for one with POST /function/code")

    def fill(self, upload: BundleUpload, content: bytes, encoding: str | None) -> None:
        """Keep a bundle's bytes, after `check`. Safe to repeat with the same bytes; raises
        BadInput for others.

        The same bytes always have the same encoding: bundles are found by their bytes.
        """
        if not content:
            raise BadInput("the bundle is empty")
        if content.startswith(GZIP_BEGINS) != (encoding == GZIP):
            raise BadInput(
                "Content-Encoding and the body disagree: send `gzip` if and only if the "
                "bundle is gzipped"
            )
        if not self._store.fill(upload.id, content, encoding):
            raise BadInput("this bundle has been uploaded: ask for another place")


def read_encoding(text: str) -> str | None:
    """The Content-Encoding that is kept beside the bytes. Raises BadInput."""
    name = text.strip().lower()
    if name in {"", "identity"}:
        return None
    if name != GZIP:
        raise BadInput(f"Content-Encoding {name[:40]!r}; send gzip, or none")
    return name


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
