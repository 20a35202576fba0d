"""A bundle: code that a client packed with its libraries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from spans.ids import OrgId


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle's bytes as they were uploaded, with their Content-Encoding.

    Several functions may share one bundle, so each function says which runtime it needs.
    """

    content: bytes
    encoding: str | None


class BundleStore(Protocol):
    """Stores bundles."""

    def add_bundle(self, org_id: OrgId, bundle_id: UUID, secret_sha256: bytes) -> None:
        """Announce a bundle. Its bytes may be uploaded by whoever knows the secret."""
        ...

    def secret_of(self, bundle_id: UUID) -> bytes | None:
        """The hash of the secret that the upload must show."""
        ...

    def digest_of(self, org_id: OrgId, bundle_id: UUID) -> str | None:
        """The sha256 of the bundle's bytes, in hex; None until they have been uploaded."""
        ...

    def fill(self, bundle_id: UUID, content: bytes, encoding: str | None) -> bool:
        """Store the bytes. Storing the same bytes again changes nothing.

        Returns False, and stores nothing, if the bundle has other bytes already.
        """
        ...

    def bundle_content(self, sha256: str) -> Bundle | None:
        """The bundle whose bytes have this hash, in hex; None if there is none."""
        ...
