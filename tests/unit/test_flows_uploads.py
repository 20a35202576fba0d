"""Uploads of bundles: only a client that knows the secret can store bytes."""

from __future__ import annotations

import hashlib
import uuid

import pytest
from memory_tallyard import MemoryTallyard

from flows.access.principal import KeyRole
from flows.functions.uploads import GZIP, GZIP_BEGINS, BundleUpload, read_encoding
from spans.errors import BadInput, Forbidden, NotFound

ZIP = b"PK zip"


@pytest.fixture
def world() -> MemoryTallyard:
    return MemoryTallyard()


def test_bytes_are_stored_only_with_the_right_secret(world: MemoryTallyard) -> None:
    upload = world.uploads.make(world.admin)
    for wrong in (
        BundleUpload(id=upload.id, secret="guessed"),
        BundleUpload(id=uuid.uuid4(), secret=upload.secret),
    ):
        with pytest.raises(NotFound, match="no such upload"):
            world.uploads.fill(wrong, ZIP, None)
    assert world.bundles.digest_of(world.admin.org_id, upload.id) is None

    world.uploads.check(upload)
    world.uploads.fill(upload, ZIP, None)

    kept = world.bundles.bundle_content(hashlib.sha256(ZIP).hexdigest())
    assert kept is not None
    assert (kept.content, kept.encoding) == (ZIP, None)


def test_an_upload_is_repeated_only_with_the_same_bytes(world: MemoryTallyard) -> None:
    upload = world.uploads.make(world.admin)
    world.uploads.fill(upload, ZIP, None)
    world.uploads.fill(upload, ZIP, None)
    with pytest.raises(BadInput, match="other bytes"):
        world.uploads.fill(upload, ZIP + b"!", None)
    with pytest.raises(BadInput, match="empty"):
        world.uploads.fill(upload, b"", None)


@pytest.mark.parametrize(
    ("content", "encoding"), [(ZIP, GZIP), (GZIP_BEGINS + b"...", None)]
)
def test_equal_bytes_have_one_encoding(
    world: MemoryTallyard, content: bytes, encoding: str | None
) -> None:
    upload = world.uploads.make(world.admin)
    with pytest.raises(BadInput, match="disagree"):
        world.uploads.fill(upload, content, encoding)


def test_an_administrator_asks_for_a_place_in_its_own_organisation(
    world: MemoryTallyard,
) -> None:
    for org_id in (None, "", str(world.admin.org_id)):
        world.uploads.make(world.admin, org_id)
    with pytest.raises(NotFound, match="acme"):
        world.uploads.make(world.admin, str(uuid.uuid4()))
    with pytest.raises(Forbidden):
        world.uploads.make(world.caller(KeyRole.INGEST))


def test_an_encoding_is_gzip_or_none() -> None:
    assert [read_encoding(text) for text in ("", " Identity ", "GZIP")] == [None, None, GZIP]
    with pytest.raises(BadInput, match="send gzip"):
        read_encoding("br")
