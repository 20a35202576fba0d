"""A bundle: code that a client packed with its libraries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from spans.ids import OrgId


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle's bytes, as they came. What they are run with is for the function to say: the
    same bytes may be those of many."""

    content: bytes
    encoding: str | None


class BundleStore(Protocol):
    """Where bundles are kept."""

    def add_bundle(self, org_id: OrgId, bundle_id: UUID, secret_sha256: bytes) -> None: ...

    def secret_of(self, bundle_id: UUID) -> bytes | None:
        """The hash of its upload's secret."""
        ...

    def digest_of(self, org_id: OrgId, bundle_id: UUID) -> str | None:
        """The sha256 of its bytes, in hex; None while they are not there."""
        ...

    def fill(self, bundle_id: UUID, content: bytes, encoding: str | None) -> bool:
        """Keep the bytes. False if others are there; the same may come again."""
        ...

    def bundle_content(self, sha256: str) -> Bundle | None:
        """The bundle whose bytes have this hash, in hex."""
        ...
