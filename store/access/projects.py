"""Reads and writes organisations and projects."""

from __future__ import annotations

from typing import Any

import orjson

from flows.access.projects import ListPage, Project
from spans.errors import BadInput
from spans.ids import FunctionId, OrgId, ProjectId
from spans.json import JsonObject
from store.postgres.database import Cursor, Database
from store.postgres.paging import read_page
from store.postgres.rule_revisions import add_revisions_naming, lock_functions_exclusively
from store.scoring.supersede import supersede_outcomes_of_functions

COLUMNS = "id, org_id, name, description, settings, created, deleted_at"


class StoredProjects:
    """Implements flows.access.projects.ProjectStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ensure_organization(self, org_id: OrgId, name: str) -> OrgId:
        """The organisation of this name, made with `org_id` if there is none."""
        with self._database.cursor() as cursor:
            cursor.execute(
                "insert into organization (id, name) values (%s, %s) on conflict do nothing",
                (org_id, name),
            )
            cursor.execute("select id from organization where name = %s", (name,))
            return OrgId(_one(cursor)[0])

    def get_or_create_project(
        self, org_id: OrgId, new_id: ProjectId, name: str, description: str | None
    ) -> tuple[Project, bool]:
        """The project of this name, and whether it existed before.

        Safe to repeat, also at the same time: the name is unique in the organisation.
        """
        with self._database.cursor() as cursor:
            cursor.execute(
                """insert into project (id, org_id, name, description) values (%s, %s, %s, %s)
                   on conflict (org_id, name) where deleted_at is null do nothing""",
                (new_id, org_id, name, description),
            )
            existed = cursor.rowcount == 0
            cursor.execute(
                f"""select {COLUMNS} from project
                     where org_id = %s and name = %s and deleted_at is null""",
                (org_id, name),
            )
            return _project(_one(cursor)), existed

    def find_project(self, org_id: OrgId, project_id: ProjectId) -> Project | None:
        with self._database.cursor() as cursor:
            cursor.execute(
                f"""select {COLUMNS} from project
                     where org_id = %s and id = %s and deleted_at is null""",
                (org_id, project_id),
            )
            row = cursor.fetchone()
        return _project(row) if row else None

    def project_named(self, org_id: OrgId, name: str) -> Project | None:
        with self._database.cursor() as cursor:
            cursor.execute(
                f"""select {COLUMNS} from project
                     where org_id = %s and name = %s and deleted_at is null""",
                (org_id, name),
            )
            row = cursor.fetchone()
        return _project(row) if row else None

    def list_projects(
        self, org_id: OrgId, page: ListPage, only: ProjectId | None
    ) -> list[Project]:
        with self._database.cursor() as cursor:
            rows = read_page(
                cursor,
                f"select {COLUMNS} from project",
                "org_id = %s and deleted_at is null and (%s::uuid is null or id = %s)",
                (org_id, only, only),
                page,
                table="project",
            )
        return [_project(row) for row in rows]

    def change_project(self, project_id: ProjectId, changes: JsonObject) -> Project:
        """Change the name, the description or the settings. Settings are merged, key by key.

        Raises BadInput if another project of the organisation has the name.
        """
        settings = changes.get("settings")
        with self._database.cursor() as cursor:
            if "name" in changes:
                cursor.execute(
                    """select 1 from project other, project mine
                        where mine.id = %s and other.org_id = mine.org_id and other.name = %s
                          and other.id <> mine.id and other.deleted_at is null""",
                    (project_id, changes["name"]),
                )
                if cursor.fetchone():
                    raise BadInput(f"another project is named {changes['name']!r}", path="name")
            cursor.execute(
                f"""update project set name = coalesce(%s, name),
                           description = case when %s then %s else description end,
                           settings = coalesce(settings, '{{}}') || coalesce(%s::jsonb, '{{}}')
                     where id = %s returning {COLUMNS}""",
                (
                    changes.get("name"), "description" in changes, changes.get("description"),
                    orjson.dumps(settings).decode() if settings else None, project_id,
                ),
            )
            return _project(_one(cursor))

    def delete_project(self, project_id: ProjectId) -> Project:
        """Hide the project and delete its functions. Safe to repeat.

        Its outbox entries and the pending outcomes of its rules are deleted at once, its rows
        later by upkeep. Projects whose rules name one of the functions get a new revision.
        """
        with self._database.cursor() as cursor:
            cursor.execute("select org_id from project where id = %s", (project_id,))
            org_id = OrgId(_one(cursor)[0])
            lock_functions_exclusively(cursor, org_id)
            cursor.execute(
                """update function set deleted_at = now()
                    where project_id = %s and deleted_at is null returning id""",
                (project_id,),
            )
            functions = [FunctionId(function_id) for (function_id,) in cursor]
            cursor.execute(
                f"""update project set deleted_at = coalesce(deleted_at, now()) where id = %s
                    returning {COLUMNS}""",
                (project_id,),
            )
            row = _one(cursor)
            add_revisions_naming(cursor, org_id, functions)
            supersede_outcomes_of_functions(cursor, org_id, functions)
            cursor.execute(
                """delete from outbox using object
                    where project_id = %s and outbox.object_no = object.object_no""",
                (project_id,),
            )
            cursor.execute(
                """delete from outcome using project_score, scorer_use
                    where project_score.project_id = %s
                      and scorer_use.origin_id = project_score.id
                      and outcome.use_no = scorer_use.use_no and state = 'pending'""",
                (project_id,),
            )
        return _project(row)


def _project(row: tuple[Any, ...]) -> Project:
    project_id, org_id, name, description, settings, created, deleted_at = row
    return Project(
        id=ProjectId(project_id), org_id=OrgId(org_id), name=name, description=description,
        settings=settings, created=created, deleted_at=deleted_at,
    )


def _one(cursor: Cursor) -> tuple[Any, ...]:
    row = cursor.fetchone()
    assert row is not None  # noqa: S101 the caller's statement always returns a row
    return row

