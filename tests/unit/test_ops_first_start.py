"""The local administrator's key is made once."""

from __future__ import annotations

import stat
import uuid
from datetime import UTC, datetime
from typing import cast

import pytest

from flows.access.keys import ApiKey, Keys
from flows.access.organizations import Organizations
from flows.access.principal import KeyRole, Principal
from flows.access.projects import Projects
from ops.setup.first_start import ensure_local_key
from spans.ids import OrgId, ProjectId

NOW = datetime(2026, 11, 20, tzinfo=UTC)


class FakeKeys:
    """Keys in memory."""

    def __init__(self) -> None:
        self.by_id: dict[str, tuple[ApiKey, bytes]] = {}
        self.org_id = OrgId(uuid.uuid4())

    def ensure_organization(self, org_id: OrgId, name: str) -> OrgId:
        return self.org_id

    def add_key(self, key: ApiKey, secret_sha256: bytes) -> None:
        self.by_id[key.id] = (key, secret_sha256)

    def find_key(self, key_id: str) -> tuple[Principal, bytes] | None:
        if key_id not in self.by_id:
            return None
        key, secret = self.by_id[key_id]
        return Principal(
            key_id=key.id, key_name=key.name, org_id=key.org_id, org_name="o",
            project_id=None, role=key.role,
        ), secret

    def list_keys(self, org_id: OrgId, only: ProjectId | None) -> list[ApiKey]:
        return [key for key, _ in self.by_id.values()]

    def revoke_key(self, org_id: OrgId, key_id: str, only: ProjectId | None) -> bool:
        return self.by_id.pop(key_id, None) is not None

    def touch_key(self, key_id: str) -> None: ...


@pytest.fixture
def store() -> FakeKeys:
    return FakeKeys()


def keys_of(store: FakeKeys) -> Keys:
    # No key here is limited to a project.
    return Keys(store, lambda: NOW, projects=cast("Projects", None))


def ensure(store: FakeKeys, path) -> str:
    return ensure_local_key(
        keys_of(store), Organizations(store), path=path, org_name="o"
    )


def test_the_first_start_makes_an_administrators_key_that_only_its_owner_reads(store, tmp_path):
    key = ensure(store, tmp_path / "api_key")
    assert keys_of(store).authenticate(key).role is KeyRole.ADMIN
    assert stat.S_IMODE((tmp_path / "api_key").stat().st_mode) == 0o600


def test_the_second_start_finds_the_same_key(store, tmp_path):
    assert ensure(store, tmp_path / "api_key") == ensure(store, tmp_path / "api_key")
    assert len(store.by_id) == 1


def test_a_key_that_the_store_no_longer_knows_is_made_anew(store, tmp_path):
    old = ensure(store, tmp_path / "api_key")
    store.by_id.clear()
    new = ensure(store, tmp_path / "api_key")
    assert new != old
    assert keys_of(store).authenticate(new)
