"""Reads and writes automations. Each change also changes what is watched."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from automations.model import Automation, AutomationStatus, WebhookAction
from automations.wire import AutomationFields, stored_config
from flows.access.projects import ListPage
from flows.automations.automations import AutomationWrite
from spans.errors import BadInput, NotFound
from spans.ids import AutomationId, OrgId, ProjectId
from store.automations.definitions import COLUMNS, automation_of
from store.automations.projects import LockedProject, count_change, lock_project
from store.automations.states import set_due
from store.postgres.database import Cursor, Database
from store.postgres.paging import read_page

FORMER_SIGNS = "24 hours"
"""For how long a secret that was replaced signs besides the new one."""

SELECT = f"select {COLUMNS} from automation join automation_state using (automation_no)"
SELECT_NUMBERED = f"""
    select automation_no, {COLUMNS}
      from automation join automation_state using (automation_no)
"""
# Automations of one request are a microsecond apart, so that they are listed in its order.
INSERT = """
    insert into automation (project_id, created_by, id, name, description, config, secret,
                            authorization_header, created)
    select %s, %s, id, name, description, config::jsonb, secret, authorization_header,
           now() + place * interval '1 microsecond'
      from unnest(%s::uuid[], %s::text[], %s::text[], %s::text[], %s::bytea[], %s::bytea[])
           with ordinality
           as new(id, name, description, config, secret, authorization_header, place)
    returning id, automation_no
"""
START = """
    insert into automation_state (automation_no, project_id, is_active, watch_no, start_xact,
                                  started_at)
    select automation_no, %s, is_active, nextval('watch_seq'), %s, %s
      from unnest(%s::integer[], %s::boolean[]) as new(automation_no, is_active)
"""
UPDATE = """
    update automation
       set name = new.name, description = new.description, config = new.config::jsonb,
           secret = case when signs then coalesce(new.secret, automation.secret) end,
           former_secret = case when signs then former_secret end,
           authorization_header = case when keeps then automation.authorization_header
                                       else new.authorization_header end
      from unnest(%s::integer[], %s::text[], %s::text[], %s::text[], %s::bytea[], %s::boolean[],
                  %s::bytea[], %s::boolean[])
           as new(automation_no, name, description, config, secret, signs,
                  authorization_header, keeps)
     where automation.automation_no = new.automation_no
"""
# What was collected stays. One that resumes has not failed yet.
CHANGE_STATES = """
    update automation_state state
       set is_active = new.is_active,
           watch_no = case when restarts then nextval('watch_seq') else watch_no end,
           start_xact = case when restarts then %s else start_xact end,
           started_at = case when restarts then %s else started_at end,
           has_baseline = has_baseline and not restarts,
           failing_since = case when resumes then null else failing_since end,
           failed_attempts = case when resumes then 0 else failed_attempts end,
           disabled_at = case when resumes then null else disabled_at end,
           disabled_reason = case when resumes then null else disabled_reason end
      from unnest(%s::integer[], %s::boolean[], %s::boolean[], %s::boolean[])
           as new(automation_no, is_active, resumes, restarts)
     where state.automation_no = new.automation_no
"""
AUTHORIZATIONS = """
    select id, authorization_header from automation
     where project_id = %s and authorization_header is not null
"""
# Who ends a delivery locks it before its automation's state, and so do we.
DELETE_DELIVERIES = "delete from delivery where automation_no = any(%s)"
DELETE = "delete from automation where automation_no = any(%s)"
ROTATE = f"""
    update automation
       set former_secret = secret, former_secret_until = now() + interval '{FORMER_SIGNS}',
           secret = %s
     where id = %s and secret is not null
"""


class _Stored(NamedTuple):
    """An automation as it is stored, and its number."""

    no: int
    automation: Automation


class StoredAutomations:
    """Implements flows.automations.automations.AutomationStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put_automations(
        self, project_id: ProjectId, wanted: Sequence[AutomationFields],
        write: Callable[[AutomationFields, Automation | None], AutomationWrite], *,
        created_by: str, replace: bool,
    ) -> list[tuple[Automation, bool]]:
        """The automations of these names, all written at once. Safe to repeat: a name is
        unique in the project."""
        names = [fields.name for fields in wanted]
        with self._database.cursor() as cursor:
            project = lock_project(cursor, self._database.numbers, project_id)
            present = _named(cursor, project_id, names)
            if replace:
                _update(cursor, project, [
                    (present[fields.name], write(fields, present[fields.name].automation))
                    for fields in wanted if fields.name in present
                ])
            _insert(
                cursor, project,
                [write(fields, None) for fields in wanted if fields.name not in present],
                created_by,
            )
            after = _named(cursor, project_id, names)
        return [(after[name].automation, name in present) for name in names]

    def find_automation(
        self, org_id: OrgId, automation_id: AutomationId
    ) -> Automation | None:
        with self._database.cursor() as cursor:
            cursor.execute(
                f"""{SELECT} where id = %s and automation.project_id in (
                      select project.id from project
                       where org_id = %s and deleted_at is null)""",
                (automation_id, org_id),
            )
            row = cursor.fetchone()
        return automation_of(row) if row else None

    def list_automations(
        self, org_id: OrgId, page: ListPage, project_id: ProjectId | None
    ) -> list[Automation]:
        with self._database.cursor() as cursor:
            rows = read_page(
                cursor,
                SELECT,
                """automation.project_id in (select project.id from project
                                              where org_id = %s and deleted_at is null)
                   and (%s::uuid is null or automation.project_id = %s)""",
                (org_id, project_id, project_id),
                page,
                table="automation",
            )
        return [automation_of(row) for row in rows]

    def authorizations(self, project_id: ProjectId) -> dict[AutomationId, bytes]:
        with self._database.cursor() as cursor:
            cursor.execute(AUTHORIZATIONS, (project_id,))
            return {AutomationId(each): bytes(sealed) for each, sealed in cursor.fetchall()}

    def change_automation(
        self, automation: Automation, patch: Callable[[Automation], AutomationWrite]
    ) -> Automation:
        """Replace the automation by what `patch` makes of it. If equal, nothing is written.

        `patch` is called under the lock that every change of the project's automations takes.
        """
        with self._database.cursor() as cursor:
            project = lock_project(cursor, self._database.numbers, automation.project_id)
            present = _numbered(cursor, automation.id)
            write = patch(present.automation)
            name = write.fields.name
            if name != present.automation.name and _named(cursor, project.id, [name]):
                raise BadInput(f"another automation is named {name!r}", path="name")
            _update(cursor, project, [(present, write)])
            return _numbered(cursor, automation.id).automation

    def delete_automations(
        self, project_id: ProjectId, automation_ids: Collection[AutomationId]
    ) -> None:
        """Delete automations with their states and deliveries. Safe to repeat."""
        with self._database.cursor() as cursor:
            project = lock_project(cursor, self._database.numbers, project_id)
            cursor.execute(
                """select automation_no, is_active
                     from automation join automation_state using (automation_no)
                    where id = any(%s) and automation.project_id = %s""",
                (list(automation_ids), project_id),
            )
            found: list[tuple[int, bool]] = cursor.fetchall()
            numbers = [no for no, _ in found]
            cursor.execute(DELETE_DELIVERIES, (numbers,))
            cursor.execute(DELETE, (numbers,))
            count_change(cursor, project, more_active=-sum(active for _, active in found))

    def rotate_secret(self, automation_id: AutomationId, secret: bytes) -> bool:
        """Replace the secret, which signs besides the new one for 24 hours. False: there is
        none."""
        with self._database.cursor() as cursor:
            cursor.execute(ROTATE, (secret, automation_id))
            return cursor.rowcount > 0


def _named(
    cursor: Cursor, project_id: ProjectId, names: Sequence[str]
) -> dict[str, _Stored]:
    """Those of the project's automations that have these names, by name."""
    cursor.execute(
        f"{SELECT_NUMBERED} where automation.project_id = %s and name = any(%s)",
        (project_id, list(names)),
    )
    found = [_stored(row) for row in cursor.fetchall()]
    return {each.automation.name: each for each in found}


def _numbered(cursor: Cursor, automation_id: AutomationId) -> _Stored:
    cursor.execute(f"{SELECT_NUMBERED} where id = %s", (automation_id,))
    if (row := cursor.fetchone()) is None:
        raise NotFound("no such automation")
    return _stored(row)


def _stored(row: tuple[Any, ...]) -> _Stored:
    return _Stored(row[0], automation_of(row[1:]))


def _insert(
    cursor: Cursor, project: LockedProject, writes: Sequence[AutomationWrite], created_by: str
) -> None:
    if not writes:
        return
    cursor.execute(
        INSERT,
        (
            project.id, created_by, [each.new_id for each in writes],
            [each.fields.name for each in writes],
            [each.fields.description for each in writes],
            [_config(each) for each in writes], [each.secret for each in writes],
            [each.authorization for each in writes],
        ),
    )
    number_of: dict[UUID, int] = dict(cursor.fetchall())
    active = [_is_active(each) for each in writes]
    numbers = [number_of[each.new_id] for each in writes]
    cursor.execute(START, (project.id, project.settled, project.now, numbers, active))
    count_change(cursor, project, more_active=sum(active))


def _update(
    cursor: Cursor, project: LockedProject, asked: Sequence[tuple[_Stored, AutomationWrite]]
) -> None:
    """Store what differs, and change what is watched accordingly."""
    changed = [
        (stored, write) for stored, write in asked if _differs(stored.automation, write)
    ]
    if not changed:
        return
    numbers = [stored.no for stored, _ in changed]
    cursor.execute(
        UPDATE,
        (
            numbers, [write.fields.name for _, write in changed],
            [write.fields.description for _, write in changed],
            [_config(write) for _, write in changed], [write.secret for _, write in changed],
            [isinstance(write.fields.action, WebhookAction) for _, write in changed],
            [write.authorization for _, write in changed],
            [write.keeps_authorization for _, write in changed],
        ),
    )
    was_active = [
        stored.automation.status is AutomationStatus.ACTIVE for stored, _ in changed
    ]
    active = [_is_active(write) for _, write in changed]
    resumes = [now and not before for now, before in zip(active, was_active, strict=True)]
    restarts = [
        resumed or write.fields.btql_filter != stored.automation.btql_filter
        for resumed, (stored, write) in zip(resumes, changed, strict=True)
    ]
    cursor.execute(
        CHANGE_STATES, (project.settled, project.now, numbers, active, resumes, restarts)
    )
    set_due(cursor, numbers, project.now)
    count_change(cursor, project, more_active=sum(active) - sum(was_active))


def _is_active(write: AutomationWrite) -> bool:
    return write.fields.status is AutomationStatus.ACTIVE


def _config(write: AutomationWrite) -> str:
    return orjson.dumps(stored_config(write.fields)).decode()


def _differs(present: Automation, write: AutomationWrite) -> bool:
    fields = write.fields
    is_same_header = (
        write.keeps_authorization == present.has_authorization and write.authorization is None
    )
    return not is_same_header or (
        present.name, present.description, present.btql_filter, present.interval_s,
        present.status, present.action,
    ) != (
        fields.name, fields.description, fields.btql_filter, fields.interval_s, fields.status,
        fields.action,
    )
