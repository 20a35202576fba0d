"""Uploads of bundles: only a client that knows the secret can store bytes."""

from __future__ import annotations

import uuid
from typing import cast

import pytest

from flows.access.principal import KeyRole, Principal
from flows.functions.uploads import BundleUpload, BundleUploads
from scorers.functions.bundle import BundleStore
from spans.errors import NotFound
from spans.ids import OrgId

ADMINISTRATOR = Principal(
    key_id="key", org_id=OrgId(uuid.uuid4()), org_name="acme", project_id=None,
    role=KeyRole.ADMIN,
)


class MemoryBundles:
    """The part of a BundleStore that uploads use."""

    def __init__(self) -> None:
        self.secrets: dict[uuid.UUID, bytes] = {}
        self.contents: dict[uuid.UUID, bytes] = {}

    def add_bundle(self, org_id: OrgId, bundle_id: uuid.UUID, secret_sha256: bytes) -> None:
        self.secrets[bundle_id] = secret_sha256

    def secret_of(self, bundle_id: uuid.UUID) -> bytes | None:
        return self.secrets.get(bundle_id)

    def fill(self, bundle_id: uuid.UUID, content: bytes, encoding: str | None) -> bool:
        return self.contents.setdefault(bundle_id, content) == content


def test_bytes_are_stored_only_with_the_right_secret() -> None:
    store = MemoryBundles()
    uploads = BundleUploads(cast("BundleStore", store))
    upload = uploads.make(ADMINISTRATOR)
    for wrong in (
        BundleUpload(id=upload.id, secret="guessed"),
        BundleUpload(id=uuid.uuid4(), secret=upload.secret),
    ):
        with pytest.raises(NotFound, match="no such upload"):
            uploads.fill(wrong, b"PK zip", None)
    assert store.contents == {}

    uploads.fill(upload, b"PK zip", None)

    assert store.contents == {upload.id: b"PK zip"}
