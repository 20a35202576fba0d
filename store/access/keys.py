"""Reads and writes API keys."""

from __future__ import annotations

from flows.access.keys import ApiKey
from flows.access.principal import KeyRole, Principal
from spans.ids import OrgId, ProjectId
from store.postgres.database import Database


class StoredKeys:
    """Implements flows.access.keys.KeyStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_key(self, key: ApiKey, secret_sha256: bytes) -> None:
        with self._database.cursor() as cursor:
            cursor.execute(
                """insert into api_key (id, org_id, project_id, name, role, secret_sha256,
                                        created)
                   values (%s, %s, %s, %s, %s, %s, %s)""",
                (
                    key.id, key.org_id, key.project_id, key.name, key.role.value,
                    secret_sha256, key.created,
                ),
            )

    def find_key(self, key_id: str) -> tuple[Principal, bytes] | None:
        with self._database.cursor() as cursor:
            cursor.execute(
                """select api_key.org_id, organization.name, project_id, role, secret_sha256,
                          api_key.name
                     from api_key join organization on organization.id = api_key.org_id
                    where api_key.id = %s and revoked_at is null""",
                (key_id,),
            )
            row = cursor.fetchone()
        if row is None:
            return None
        org_id, org_name, project_id, role, secret, key_name = row
        principal = Principal(
            key_id=key_id, key_name=key_name, org_id=OrgId(org_id), org_name=org_name,
            project_id=None if project_id is None else ProjectId(project_id),
            role=KeyRole(role),
        )
        return principal, bytes(secret)

    def list_keys(self, org_id: OrgId, only: ProjectId | None) -> list[ApiKey]:
        with self._database.cursor() as cursor:
            cursor.execute(
                """select id, project_id, name, role, created, last_used_at, revoked_at
                     from api_key where org_id = %s and (%s::uuid is null or project_id = %s)
                    order by created desc""",
                (org_id, only, only),
            )
            rows = cursor.fetchall()
        return [
            ApiKey(
                id=key_id, org_id=org_id,
                project_id=None if project_id is None else ProjectId(project_id), name=name,
                role=KeyRole(role), created=created, last_used_at=used, revoked_at=revoked,
            )
            for key_id, project_id, name, role, created, used, revoked in rows
        ]

    def revoke_key(self, org_id: OrgId, key_id: str, only: ProjectId | None) -> bool:
        with self._database.cursor() as cursor:
            cursor.execute(
                """update api_key set revoked_at = coalesce(revoked_at, now())
                    where org_id = %s and id = %s
                      and (%s::uuid is null or project_id = %s)""",
                (org_id, key_id, only, only),
            )
            return cursor.rowcount == 1

    def touch_key(self, key_id: str) -> None:
        with self._database.cursor() as cursor:
            cursor.execute(
                """update api_key set last_used_at = now()
                    where id = %s
                      and coalesce(last_used_at, '-infinity') < now() - interval '1 minute'""",
                (key_id,),
            )
