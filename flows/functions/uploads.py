"""Bundles: code that a client packed with its libraries, uploaded to a URL made for it.

The bytes are kept as they came. They are opened in a jail alone, once a worker needs them.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

from flows.access.keys import NO_HASH, SECRET_BYTES
from flows.access.principal import Principal
from scorers.functions.bundle import BundleStore
from scorers.sandbox.model import Runtime
from spans.errors import BadInput, NotFound
from spans.json import Json

VERSION_CHARS_MAX = 64
"""Of a runtime's version, such as "3.11"."""

GZIP = "gzip"
"""The Content-Encoding of a bundle: the JavaScript client compresses its one file."""

GZIP_BEGINS = b"\x1f\x8b"
"""RFC 1952; neither a zip nor text begins so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a bundle is to be uploaded; `secret` is told once, and kept as a hash."""

    id: UUID
    secret: str


def make_place(
    store: BundleStore, principal: Principal, body: Mapping[str, Json], *, new_id: UUID,
    random_text: Callable[[int], str],
) -> Place:
    """A place for a bundle. Raises BadInput, and NotFound for another organisation."""
    if body.get("org_id") not in (None, "", str(principal.org_id)):
        raise NotFound(f"this key is for the organisation {principal.org_name!r}")
    context = body.get("runtime_context")
    if not isinstance(context, dict) or context.get("runtime") not in {*Runtime}:
        raise BadInput(
            f'{{"runtime": {" or ".join(Runtime)}, "version": ...}}', path="runtime_context"
        )
    version = context.get("version")
    if not isinstance(version, str) or not 0 < len(version) <= VERSION_CHARS_MAX:
        raise BadInput('the runtime\'s version, as "3.11"', path="runtime_context.version")
    secret = random_text(SECRET_BYTES)
    store.add_bundle(principal.org_id, new_id, _hash(secret))
    return Place(id=new_id, secret=secret)


def check_secret(store: BundleStore, bundle_id: UUID, secret: str) -> None:
    """Raises NotFound, in the same words for no such bundle and a wrong secret."""
    kept = store.secret_of(bundle_id)
    if not hmac.compare_digest(_hash(secret), kept or NO_HASH) or kept is None:
        raise NotFound("no such upload: ask for one with POST /function/code")


def read_encoding(text: str) -> str | None:
    """The Content-Encoding that is kept beside the bytes. Raises BadInput."""
    name = text.strip().lower()
    if name in {"", "identity"}:
        return None
    if name != GZIP:
        raise BadInput(f"Content-Encoding {name[:40]!r}; send gzip, or none")
    return name


def fill(store: BundleStore, place: Place, content: bytes, encoding: str | None) -> None:
    """Keep a bundle's bytes. Safe to repeat with the same; raises BadInput for others.

    The same bytes always have the same encoding: bundles are found by their bytes.
    """
    if not content:
        raise BadInput("the bundle is empty")
    if content.startswith(GZIP_BEGINS) != (encoding == GZIP):
        raise BadInput("Content-Encoding says gzip of what is not, or does not of what is")
    if not store.fill(place.id, content, encoding):
        raise BadInput("this bundle has been uploaded: ask for another place")


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
