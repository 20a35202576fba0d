"""Keys are trusted for seconds, and decide which projects a use case may touch."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import cast

import pytest

from flows.access.keys import TRUSTED_S, ApiKey, Keys, Unauthorized
from flows.access.organizations import Organizations
from flows.access.principal import KeyRole, Principal
from flows.access.projects import Project, Projects, ProjectStore
from flows.access.use_case import TRIES, use_case
from spans.errors import Contended, Forbidden, NotFound
from spans.ids import OrgId, ProjectId

NOW = datetime(2026, 11, 20, tzinfo=UTC)
OWN, NEIGHBOUR = ProjectId(uuid.uuid4()), ProjectId(uuid.uuid4())


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

    def list_keys(self, org_id: OrgId, only: ProjectId | None) -> list[ApiKey]:
        return [
            key for key, _ in self.keys.values()
            if key.org_id == org_id and only in {None, key.project_id}
        ]

    def revoke_key(self, org_id: OrgId, key_id: str, only: ProjectId | None) -> bool:
        if key_id not in {key.id for key in self.list_keys(org_id, only)}:
            return False
        del self.keys[key_id]
        return True

    def touch_key(self, key_id: str) -> None: ...


class TwoProjects:
    """The part of a ProjectStore that looks up: OWN and NEIGHBOUR are of one organisation."""

    def __init__(self, org_id: OrgId) -> None:
        self.org_id = org_id

    def find_project(self, org_id: OrgId, project_id: ProjectId) -> Project | None:
        if org_id != self.org_id or project_id not in {OWN, NEIGHBOUR}:
            return None
        return Project(
            id=project_id, org_id=org_id, name=str(project_id), description=None, settings=None,
            created=NOW,
        )


class World:
    def __init__(self) -> None:
        self.now_s = 0.0
        self.store = MemoryStore()
        self.projects = Projects(
            cast("ProjectStore", TwoProjects(self.store.org_id)), ring=lambda _: None
        )
        self.keys = Keys(
            self.store, lambda: NOW, projects=self.projects, seconds=lambda: self.now_s
        )
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
    limited = world.keys.authenticate(world.key(KeyRole.ADMIN, OWN))
    world.keys.create(limited, name="same reach", role=KeyRole.READ, project_id=OWN)
    with pytest.raises(NotFound):
        world.keys.create(limited, name="other reach", role=KeyRole.READ, project_id=NEIGHBOUR)


def test_a_key_for_one_project_makes_no_key_for_the_organisation(world: World) -> None:
    limited = world.keys.authenticate(world.key(KeyRole.ADMIN, OWN))
    kept = dict(world.store.keys)
    with pytest.raises(Forbidden, match="limited to one project"):
        world.keys.create(limited, name="every project", role=KeyRole.READ)
    assert world.store.keys == kept


def test_a_key_is_made_only_for_a_project_of_the_organisation(world: World) -> None:
    stranger = replace(world.administrator, org_id=OrgId(uuid.uuid4()))
    for caller, project_id in (
        (stranger, OWN), (world.administrator, ProjectId(uuid.uuid4())),
    ):
        with pytest.raises(NotFound):
            world.keys.create(caller, name="lost", role=KeyRole.READ, project_id=project_id)
    assert world.store.keys == {}


def test_a_key_for_one_project_sees_and_revokes_only_keys_for_it(world: World) -> None:
    limited = world.keys.authenticate(world.key(KeyRole.ADMIN, OWN))
    own, other, every = (
        world.keys.authenticate(world.key(KeyRole.READ, project_id)).key_id
        for project_id in (OWN, NEIGHBOUR, None)
    )
    assert {key.id for key in world.keys.list(limited)} == {limited.key_id, own}
    for beyond in (other, every):
        with pytest.raises(NotFound):
            world.keys.revoke(limited, beyond)
    world.keys.revoke(limited, own)
    assert {key.id for key in world.keys.list(world.administrator)} == {
        limited.key_id, other, every,
    }


def test_administrators_of_two_organisations_share_no_trust(world: World) -> None:
    world.projects.logs_of(world.administrator, OWN)
    stranger = replace(world.administrator, org_id=OrgId(uuid.uuid4()), org_name="others")
    assert stranger.key_id == world.administrator.key_id
    assert world.projects.trusted_logs_of(world.administrator, OWN) is not None
    assert world.projects.trusted_logs_of(stranger, OWN) is None
    with pytest.raises(NotFound):
        world.projects.logs_of(stranger, OWN)


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
