"""Keys are trusted for seconds, and decide which projects a use case may touch."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import pytest

from flows.access.keys import TRUSTED_S, ApiKey, Keys, Unauthorized
from flows.access.organizations import Organizations
from flows.access.principal import KeyRole, Principal
from flows.access.use_case import TRIES, use_case
from spans.errors import Contended, Forbidden, NotFound
from spans.ids import OrgId, ProjectId

NOW = datetime(2026, 11, 20, tzinfo=UTC)


class MemoryStore:
    """Keys and one organisation in memory."""

    def __init__(self) -> None:
        self.org_id = OrgId(uuid.uuid4())
        self.keys: dict[str, tuple[ApiKey, bytes]] = {}
        self.lookups = 0

    def ensure_organization(self, org_id: OrgId, name: str) -> OrgId:
        return self.org_id

    def add_key(self, key: ApiKey, secret_sha256: bytes) -> None:
        self.keys[key.id] = (key, secret_sha256)

    def find_key(self, key_id: str) -> tuple[Principal, bytes] | None:
        self.lookups += 1
        if key_id not in self.keys:
            return None
        key, secret = self.keys[key_id]
        return Principal(
            key_id=key.id, org_id=key.org_id, org_name="acme", project_id=key.project_id,
            role=key.role,
        ), secret

    def list_keys(self, org_id: OrgId) -> list[ApiKey]:
        return [key for key, _ in self.keys.values() if key.org_id == org_id]

    def revoke_key(self, org_id: OrgId, key_id: str) -> bool:
        return self.keys.pop(key_id, None) is not None

    def touch_key(self, key_id: str) -> None: ...


class World:
    def __init__(self) -> None:
        self.now_s = 0.0
        self.store = MemoryStore()
        self.keys = Keys(self.store, lambda: NOW, seconds=lambda: self.now_s)
        self.administrator = Organizations(self.store).administrator("acme")

    def key(self, role: KeyRole, project_id: ProjectId | None = None) -> str:
        return self.keys.create(
            self.administrator, name="test", role=role, project_id=project_id
        )


@pytest.fixture
def world() -> World:
    return World()


def test_a_key_is_looked_up_once_while_it_is_trusted(world: World) -> None:
    key = world.key(KeyRole.READ)
    assert world.keys.trusted(key) is None
    principal = world.keys.authenticate(key)
    assert world.keys.trusted(key) == principal
    assert world.store.lookups == 1


def test_a_revoked_key_is_trusted_no_longer_than_the_limit(world: World) -> None:
    key = world.key(KeyRole.READ)
    principal = world.keys.authenticate(key)
    world.keys.revoke(world.administrator, principal.key_id)
    world.now_s += TRUSTED_S
    assert world.keys.trusted(key) is None
    with pytest.raises(Unauthorized):
        world.keys.authenticate(key)


def test_a_key_that_is_not_valid_is_never_trusted(world: World) -> None:
    wrong = world.key(KeyRole.READ)[:-1] + "!"
    with pytest.raises(Unauthorized):
        world.keys.authenticate(wrong)
    assert world.keys.trusted(wrong) is None


def test_only_an_administrator_makes_keys(world: World) -> None:
    reader = world.keys.authenticate(world.key(KeyRole.READ))
    with pytest.raises(Forbidden):
        world.keys.create(reader, name="more", role=KeyRole.ADMIN)


def test_a_key_for_one_project_makes_no_key_for_another(world: World) -> None:
    own, other = ProjectId(uuid.uuid4()), ProjectId(uuid.uuid4())
    limited = world.keys.authenticate(world.key(KeyRole.ADMIN, own))
    world.keys.create(limited, name="same reach", role=KeyRole.READ, project_id=own)
    with pytest.raises(NotFound):
        world.keys.create(limited, name="other reach", role=KeyRole.READ, project_id=other)


def test_a_use_case_is_repeated_while_other_transactions_win(world: World) -> None:
    class Contest:
        def __init__(self, losses: int) -> None:
            self.losses = losses

        @use_case(KeyRole.READ)
        def enter(self, principal: Principal) -> str:
            if self.losses:
                self.losses -= 1
                raise Contended("lost")
            return "won"

    assert Contest(losses=TRIES - 1).enter(world.administrator) == "won"
    with pytest.raises(Contended):
        Contest(losses=TRIES).enter(world.administrator)
