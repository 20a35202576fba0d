"""Keys are trusted for seconds, and decide which projects a use case may touch."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable

import pytest
from memory_tallyard import MemoryTallyard

from flows.access.keys import TRUSTED_S, Unauthorized
from flows.access.principal import KeyRole, Principal
from flows.access.projects import NAME_CHARS_MAX, ListPage
from flows.access.use_case import TRIES, roles_of, use_case
from spans.errors import BadInput, Contended, Forbidden, NotFound
from spans.ids import ProjectId
from spans.queues import UPKEEP

PAGE = ListPage(limit=100)


@pytest.fixture
def world() -> MemoryTallyard:
    return MemoryTallyard()


def key(
    world: MemoryTallyard, role: KeyRole = KeyRole.READ, project_id: ProjectId | None = None
) -> str:
    return world.keys.create(world.admin, name="test", role=role, project_id=project_id)


# --- keys


def test_a_key_that_was_just_checked_is_trusted_without_the_store(
    world: MemoryTallyard,
) -> None:
    text = key(world)
    assert world.keys.trusted(text) is None
    principal = world.keys.authenticate(text)
    world.stored_keys.revoke_key(principal.org_id, principal.key_id, None)
    assert world.keys.trusted(text) == principal


def test_a_revoked_key_is_trusted_no_longer_than_the_limit(world: MemoryTallyard) -> None:
    text = key(world)
    principal = world.keys.authenticate(text)
    world.keys.revoke(world.admin, principal.key_id)
    world.now_s += TRUSTED_S
    assert world.keys.trusted(text) is None
    with pytest.raises(Unauthorized):
        world.keys.authenticate(text)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda text: text[:-1] + ("A" if text[-1] != "A" else "B"),
        lambda text: text[:-1] + "!",
        lambda text: text.replace("sk-", ""),
        lambda _: "sk-" + "0" * 12 + "-" + "0" * 43,
        lambda _: "",
        lambda _: None,
    ],
    ids=["secret", "character", "prefix", "unknown", "empty", "none"],
)
def test_a_key_that_is_not_valid_is_refused_in_the_same_words_and_never_trusted(
    world: MemoryTallyard, wrong: Callable[[str], str | None]
) -> None:
    text = wrong(key(world))
    with pytest.raises(Unauthorized, match=r"^Invalid API key: make one with"):
        world.keys.authenticate(text)
    assert world.keys.trusted(text or "") is None


def test_use_of_a_key_shows_in_the_list(world: MemoryTallyard) -> None:
    text = key(world)
    assert [each.last_used_at for each in world.keys.list(world.admin)] == [None]
    world.keys.authenticate(text)
    assert [each.last_used_at is None for each in world.keys.list(world.admin)] == [False]


def test_only_an_administrator_makes_keys(world: MemoryTallyard) -> None:
    reader = world.keys.authenticate(key(world))
    with pytest.raises(Forbidden, match="needs admin"):
        world.keys.create(reader, name="more", role=KeyRole.ADMIN)


def test_a_key_has_a_name(world: MemoryTallyard) -> None:
    with pytest.raises(BadInput, match="empty") as caught:
        world.keys.create(world.admin, name=" \t", role=KeyRole.READ)
    assert caught.value.path == "name"
    assert world.keys.list(world.admin) == []


def test_a_key_for_one_project_makes_no_key_for_another(world: MemoryTallyard) -> None:
    own, neighbour = world.project("own"), world.project("neighbour")
    limited = world.keys.authenticate(key(world, KeyRole.ADMIN, own))
    world.keys.create(limited, name="same reach", role=KeyRole.READ, project_id=own)
    with pytest.raises(NotFound):
        world.keys.create(limited, name="other", role=KeyRole.READ, project_id=neighbour)


def test_a_key_for_one_project_makes_no_key_for_the_organisation(
    world: MemoryTallyard,
) -> None:
    limited = world.keys.authenticate(key(world, KeyRole.ADMIN, world.project("own")))
    before = world.keys.list(world.admin)
    with pytest.raises(Forbidden, match="limited to one project"):
        world.keys.create(limited, name="every project", role=KeyRole.READ)
    assert world.keys.list(world.admin) == before


def test_a_key_is_made_only_for_a_project_of_the_organisation(world: MemoryTallyard) -> None:
    own, stranger = world.project("own"), world.stranger()
    for caller, project_id in (
        (stranger, own), (world.admin, ProjectId(uuid.uuid4())),
    ):
        with pytest.raises(NotFound):
            world.keys.create(caller, name="lost", role=KeyRole.READ, project_id=project_id)
        assert world.keys.list(caller) == []


def test_a_key_for_one_project_sees_and_revokes_only_keys_for_it(
    world: MemoryTallyard,
) -> None:
    project, neighbour = world.project("own"), world.project("neighbour")
    limited = world.keys.authenticate(key(world, KeyRole.ADMIN, project))
    own, other, every = (
        world.keys.authenticate(key(world, KeyRole.READ, project_id)).key_id
        for project_id in (project, neighbour, None)
    )
    assert {each.id for each in world.keys.list(limited)} == {limited.key_id, own}
    for beyond in (other, every, "unknown"):
        with pytest.raises(NotFound):
            world.keys.revoke(limited, beyond)
    world.keys.revoke(limited, own)
    revoked = {each.id for each in world.keys.list(world.admin) if each.revoked_at}
    assert revoked == {own}


# --- projects


def test_a_project_beyond_a_keys_reach_looks_like_one_that_is_not_there(
    world: MemoryTallyard,
) -> None:
    own, neighbour, gone = (world.project(name) for name in ("own", "neighbour", "gone"))
    world.projects.delete(world.admin, gone)
    limited = world.caller(KeyRole.READ, own)
    said = set()
    for caller, project_id in (
        (limited, neighbour), (world.stranger(), own), (world.admin, gone),
        (world.admin, ProjectId(uuid.uuid4())),
    ):
        for look_up in (world.projects.get, world.projects.logs_of):
            with pytest.raises(NotFound) as caught:
                look_up(caller, project_id)
            said.add(str(caught.value))
    assert said == {"no such project"}
    assert world.projects.get(limited, own).name == "own"


def test_a_name_finds_only_a_project_that_the_key_reaches(world: MemoryTallyard) -> None:
    own, _ = world.project("own"), world.project("neighbour")
    limited = world.caller(KeyRole.INGEST, own)
    assert world.projects.named(limited, "own").id == own
    for name in ("neighbour", "unknown"):
        with pytest.raises(NotFound, match=name):
            world.projects.named(limited, name)
        assert [each.id for each in world.projects.list(
            world.caller(KeyRole.READ, own), ListPage(limit=9, name=name)
        )] == []


def test_a_project_is_made_once_and_its_name_is_trimmed(world: MemoryTallyard) -> None:
    made, existed = world.projects.get_or_create(world.admin, "  app ", "the first")
    again, is_there = world.projects.get_or_create(world.admin, "app", "the second")
    assert (made.name, existed, is_there) == ("app", False, True)
    assert again == made
    assert world.projects.list(world.admin, PAGE) == [made]


def test_a_replaced_project_has_the_new_description_alone(world: MemoryTallyard) -> None:
    made, existed = world.projects.replace(world.admin, "app", "the first")
    world.projects.change(world.admin, made.id, {"settings": {"kept": True}})
    again, is_there = world.projects.replace(world.admin, "app", "the second")
    without, _ = world.projects.replace(world.admin, "app", None)
    assert (existed, is_there) == (False, True)
    assert {made.id, again.id, without.id} == {made.id}
    assert (made.description, again.description, without.description) == (
        "the first", "the second", None
    )
    assert without.settings == {"kept": True}


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\0", "x" * (NAME_CHARS_MAX + 1)])
def test_a_name_that_people_cannot_read_is_refused(world: MemoryTallyard, name: str) -> None:
    made = world.project("app")
    with pytest.raises(BadInput, match="printable") as caught:
        world.projects.get_or_create(world.admin, name)
    assert caught.value.path == "name"
    with pytest.raises(BadInput, match="printable"):
        world.projects.change(world.admin, made, {"name": name})
    assert [each.name for each in world.projects.list(world.admin, PAGE)] == ["app"]


def test_a_key_for_one_project_creates_no_other(world: MemoryTallyard) -> None:
    own = world.project("own")
    limited = world.caller(KeyRole.INGEST, own)
    found, existed = world.projects.get_or_create(limited, "own")
    assert (found.id, existed) == (own, True)
    with pytest.raises(Forbidden, match="for the project 'own' only"):
        world.projects.get_or_create(limited, "another")
    assert [each.id for each in world.projects.list(world.admin, PAGE)] == [own]


def test_a_change_trims_the_name_and_returns_the_project(world: MemoryTallyard) -> None:
    own = world.project("own")
    changed = world.projects.change(
        world.admin, own, {"name": " new ", "settings": {"a": 1}}
    )
    assert (changed.name, changed.settings) == ("new", {"a": 1})
    assert world.projects.get(world.admin, own) == changed


def test_only_an_administrator_who_reaches_a_project_changes_or_deletes_it(
    world: MemoryTallyard,
) -> None:
    own, neighbour = world.project("own"), world.project("neighbour")
    for caller, error in (
        (world.caller(KeyRole.READ, own), Forbidden),
        (world.caller(KeyRole.INGEST, own), Forbidden),
        (world.caller(KeyRole.ADMIN, neighbour), NotFound),
        (world.stranger(), NotFound),
    ):
        with pytest.raises(error):
            world.projects.change(caller, own, {"name": "taken over"})
        with pytest.raises(error):
            world.projects.delete(caller, own)
    assert world.projects.get(world.admin, own).name == "own"
    assert world.rung == []


def test_a_deleted_project_takes_no_rows_at_once_and_upkeep_is_rung(
    world: MemoryTallyard,
) -> None:
    own = world.project("own")
    world.projects.logs_of(world.admin, own)
    assert world.projects.trusted_logs_of(world.admin, own) is not None

    gone = world.projects.delete(world.admin, own)

    assert gone.deleted_at is not None
    assert world.projects.trusted_logs_of(world.admin, own) is None
    with pytest.raises(NotFound):
        world.projects.logs_of(world.admin, own)
    assert world.rung == [UPKEEP]


def test_a_project_that_another_process_deleted_is_trusted_no_longer_than_the_limit(
    world: MemoryTallyard,
) -> None:
    own = world.project("own")
    logs = world.projects.logs_of(world.admin, own)
    world.stored_projects.delete_project(own)
    assert world.projects.logs_of(world.admin, own) == logs
    world.now_s += TRUSTED_S
    with pytest.raises(NotFound):
        world.projects.logs_of(world.admin, own)


def test_a_list_is_limited_to_the_project_that_it_names_or_that_its_key_is_for(
    world: MemoryTallyard,
) -> None:
    own, neighbour = world.project("own"), world.project("neighbour")
    limited = world.caller(KeyRole.READ, own)
    scope = world.projects.scope
    assert scope(world.admin, None, None) is None
    assert scope(world.admin, None, "own") == own
    assert scope(world.admin, neighbour, None) == neighbour
    assert scope(limited, None, None) == own
    assert scope(limited, own, None) == scope(limited, None, "own") == own
    for project_id, name in ((neighbour, None), (None, "neighbour"), (None, "unknown")):
        with pytest.raises(NotFound):
            scope(limited, project_id, name)


def test_administrators_of_two_organisations_share_no_trust(world: MemoryTallyard) -> None:
    own, stranger = world.project("own"), world.stranger()
    world.projects.logs_of(world.admin, own)
    assert stranger.key_id == world.admin.key_id
    assert world.projects.trusted_logs_of(world.admin, own) is not None
    assert world.projects.trusted_logs_of(stranger, own) is None
    with pytest.raises(NotFound):
        world.projects.logs_of(stranger, own)


def test_the_same_name_is_the_same_organisation(world: MemoryTallyard) -> None:
    again = world.organizations.administrator(world.admin.org_name)
    assert again == world.admin
    assert world.stranger().org_id != world.admin.org_id


# --- use cases


class Contest:
    """A use case that loses to other transactions a number of times."""

    def __init__(self, losses: int) -> None:
        self.losses = losses

    @use_case(KeyRole.READ)
    def enter(self, principal: Principal) -> str:
        return self._result()

    @use_case(KeyRole.READ)
    async def enter_async(self, principal: Principal) -> str:
        return self._result()

    def _result(self) -> str:
        if self.losses:
            self.losses -= 1
            raise Contended("lost")
        return "won"


def test_a_use_case_is_repeated_while_other_transactions_win(world: MemoryTallyard) -> None:
    assert Contest(losses=TRIES - 1).enter(world.admin) == "won"
    with pytest.raises(Contended):
        Contest(losses=TRIES).enter(world.admin)


def test_an_async_use_case_is_repeated_too(world: MemoryTallyard) -> None:
    assert asyncio.run(Contest(losses=TRIES - 1).enter_async(world.admin)) == "won"
    with pytest.raises(Contended):
        asyncio.run(Contest(losses=TRIES).enter_async(world.admin))


def test_a_role_that_may_not_call_a_use_case_never_enters_it(world: MemoryTallyard) -> None:
    ingester, contest = world.caller(KeyRole.INGEST), Contest(losses=1)
    with pytest.raises(Forbidden, match="needs read or admin"):
        contest.enter(ingester)
    with pytest.raises(Forbidden):
        asyncio.run(contest.enter_async(ingester))
    assert contest.losses == 1
    assert roles_of(Contest.enter) == roles_of(Contest.enter_async) == (KeyRole.READ,)
