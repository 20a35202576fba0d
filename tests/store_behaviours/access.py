"""What every store of organisations, projects and API keys does."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from flows.access.keys import ApiKey, KeyStore
from flows.access.organizations import OrganizationStore
from flows.access.principal import KeyRole
from flows.access.projects import ListPage, Project, ProjectStore
from spans.errors import BadInput
from spans.ids import OrgId, ProjectId

CREATED = datetime(2026, 11, 20, tzinfo=UTC)
SECRET = bytes(range(32))


class BothStores(OrganizationStore, ProjectStore):
    """Organisations and projects are in one store."""


class ProjectBehaviours:
    """A subclass has a fixture `projects` that gives a store."""

    def test_an_organisation_keeps_the_id_that_it_got_first(self, projects: BothStores) -> None:
        name = f"org {uuid.uuid4()}"
        first = projects.ensure_organization(OrgId(uuid.uuid4()), name)

        assert projects.ensure_organization(OrgId(uuid.uuid4()), name) == first

    def test_a_name_is_one_project_of_each_organisation(self, projects: BothStores) -> None:
        org, other = new_org(projects), new_org(projects)
        made, existed = create(projects, org, "app", "the first")

        again, is_there = create(projects, org, "app", "the second")
        elsewhere, _ = create(projects, other, "app")

        assert (existed, is_there) == (False, True)
        assert (again, again.description) == (made, "the first")
        assert elsewhere.id != made.id

    def test_a_project_is_found_in_its_own_organisation_only(
        self, projects: BothStores
    ) -> None:
        org, other = new_org(projects), new_org(projects)
        made, _ = create(projects, org, "app")

        assert projects.find_project(org, made.id) == made
        assert projects.project_named(org, "app") == made
        assert projects.find_project(other, made.id) is None
        assert projects.project_named(other, "app") is None
        assert projects.find_project(org, ProjectId(uuid.uuid4())) is None

    def test_a_list_is_newest_first_and_its_pages_have_each_project_once(
        self, projects: BothStores
    ) -> None:
        org = new_org(projects)
        made = [create(projects, org, f"app {n}")[0] for n in range(5)]
        newest_first = [each.id for each in reversed(made)]

        def ids(page: ListPage) -> list[ProjectId]:
            return [each.id for each in projects.list_projects(org, page, None)]

        assert ids(ListPage(limit=10)) == newest_first
        assert ids(ListPage(limit=2)) == newest_first[:2]
        after = str(newest_first[1])
        assert ids(ListPage(limit=2, starting_after=after)) == newest_first[2:4]
        before = str(newest_first[4])
        assert ids(ListPage(limit=2, ending_before=before)) == newest_first[2:4]
        assert ids(ListPage(limit=2, ending_before=str(newest_first[0]))) == []

    @pytest.mark.parametrize("mark", [str(uuid.UUID(int=1)), "no id"])
    def test_a_page_beside_nothing_is_empty(self, projects: BothStores, mark: str) -> None:
        org = new_org(projects)
        create(projects, org, "app")

        for page in (
            ListPage(limit=9, starting_after=mark), ListPage(limit=9, ending_before=mark)
        ):
            assert projects.list_projects(org, page, None) == []

    def test_a_list_is_limited_by_ids_by_name_and_to_one_project(
        self, projects: BothStores
    ) -> None:
        org = new_org(projects)
        first, second = (create(projects, org, name)[0] for name in ("one", "two"))

        def found(only: ProjectId | None = None, **page: object) -> list[str]:
            pages = ListPage(**{"limit": 9, **page})
            return [each.name for each in projects.list_projects(org, pages, only)]

        assert found(name="two") == ["two"]
        assert found(ids=(str(first.id), "no id")) == ["one"]
        assert found(only=second.id) == ["two"]
        assert found(only=second.id, name="one") == []

    def test_a_change_leaves_what_it_does_not_name(self, projects: BothStores) -> None:
        org = new_org(projects)
        made, _ = create(projects, org, "app", "described")

        settings = projects.change_project(made.id, {"settings": {"a": 1, "b": 1}})
        merged = projects.change_project(made.id, {"settings": {"b": 2}})
        renamed = projects.change_project(made.id, {"name": "other", "description": None})

        assert settings == replace(made, settings={"a": 1, "b": 1})
        assert merged.settings == {"a": 1, "b": 2}
        assert renamed == replace(merged, name="other", description=None)
        assert projects.find_project(org, made.id) == renamed

    def test_a_change_takes_no_name_of_another_project(self, projects: BothStores) -> None:
        org = new_org(projects)
        made, _ = create(projects, org, "app")
        create(projects, org, "taken")

        with pytest.raises(BadInput, match="taken") as caught:
            projects.change_project(made.id, {"name": "taken"})
        assert caught.value.path == "name"
        assert projects.change_project(made.id, {"name": "app"}).name == "app"

    def test_a_deleted_project_is_hidden_and_its_name_is_free(
        self, projects: BothStores
    ) -> None:
        org = new_org(projects)
        made, _ = create(projects, org, "app")

        gone = projects.delete_project(made.id)

        assert gone.deleted_at is not None
        assert projects.find_project(org, made.id) is None
        assert projects.project_named(org, "app") is None
        assert projects.list_projects(org, ListPage(limit=9), None) == []
        assert projects.delete_project(made.id) == gone
        anew, existed = create(projects, org, "app")
        assert (anew.id == made.id, existed) == (False, False)


class KeyBehaviours:
    """A subclass has fixtures `keys` and `projects` that give stores of one database."""

    def test_a_key_is_found_with_its_reach_and_its_secret(
        self, keys: KeyStore, projects: BothStores
    ) -> None:
        name = f"org {uuid.uuid4()}"
        org = projects.ensure_organization(OrgId(uuid.uuid4()), name)
        project, _ = create(projects, org, "app")
        added = add(keys, org, role=KeyRole.READ, project_id=project.id)

        principal, secret = keys.find_key(added.id) or (None, b"")

        assert principal is not None
        assert (principal.org_id, principal.org_name) == (org, name)
        assert (principal.role, principal.project_id) == (KeyRole.READ, project.id)
        assert (principal.key_id, principal.key_name) == (added.id, added.name)
        assert secret == SECRET
        assert keys.find_key("unknown") is None

    def test_a_revoked_key_is_listed_and_not_found(
        self, keys: KeyStore, projects: BothStores
    ) -> None:
        org = new_org(projects)
        added = add(keys, org)

        assert keys.revoke_key(org, added.id, None)

        assert keys.find_key(added.id) is None
        (listed,) = keys.list_keys(org, None)
        assert listed.revoked_at is not None
        assert keys.revoke_key(org, added.id, None)
        assert keys.list_keys(org, None) == [listed]

    def test_a_key_is_revoked_only_within_its_organisation_and_project(
        self, keys: KeyStore, projects: BothStores
    ) -> None:
        org, other = new_org(projects), new_org(projects)
        own, neighbour = (create(projects, org, name)[0].id for name in ("own", "other"))
        every, limited = add(keys, org), add(keys, org, project_id=own)

        assert not keys.revoke_key(other, every.id, None)
        assert not keys.revoke_key(org, every.id, own)
        assert not keys.revoke_key(org, limited.id, neighbour)
        assert not keys.revoke_key(org, "unknown", None)
        assert all(keys.find_key(each.id) for each in (every, limited))
        assert keys.revoke_key(org, limited.id, own)
        assert keys.find_key(limited.id) is None

    def test_keys_are_listed_newest_first(self, keys: KeyStore, projects: BothStores) -> None:
        org, other = new_org(projects), new_org(projects)
        project, _ = create(projects, org, "app")
        add(keys, other)
        older = add(keys, org, created=CREATED)
        newer = add(keys, org, created=CREATED + timedelta(hours=1), project_id=project.id)

        assert keys.list_keys(org, None) == [newer, older]
        assert keys.list_keys(org, project.id) == [newer]

    def test_use_of_a_key_is_recorded_at_most_once_a_minute(
        self, keys: KeyStore, projects: BothStores
    ) -> None:
        org = new_org(projects)
        added = add(keys, org)

        keys.touch_key(added.id)
        (used,) = keys.list_keys(org, None)
        keys.touch_key(added.id)

        assert used.last_used_at is not None
        assert keys.list_keys(org, None) == [used]


def new_org(projects: OrganizationStore) -> OrgId:
    return projects.ensure_organization(OrgId(uuid.uuid4()), f"org {uuid.uuid4()}")


def create(
    projects: ProjectStore, org: OrgId, name: str, description: str | None = None
) -> tuple[Project, bool]:
    return projects.get_or_create_project(org, ProjectId(uuid.uuid4()), name, description)


def add(keys: KeyStore, org: OrgId, **changes: object) -> ApiKey:
    given = {"project_id": None, "role": KeyRole.ADMIN, "created": CREATED, **changes}
    key = ApiKey(id=uuid.uuid4().hex[:12], org_id=org, name="key", **given)
    keys.add_key(key, SECRET)
    return key
