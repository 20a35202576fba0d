"""Stores bundles: the uploaded bytes, unchanged."""

from __future__ import annotations

import hashlib
from uuid import UUID

from scorers.functions.bundle import Bundle
from spans.ids import OrgId
from store.postgres.database import Database


class Bundles:
    """Implements scorers.functions.bundle.BundleStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_bundle(self, org_id: OrgId, bundle_id: UUID, secret_sha256: bytes) -> None:
        with self._database.cursor() as cursor:
            cursor.execute(
                "insert into bundle (id, org_id, upload_sha256) values (%s, %s, %s)",
                (bundle_id, org_id, secret_sha256),
            )

    def secret_of(self, bundle_id: UUID) -> bytes | None:
        with self._database.cursor() as cursor:
            cursor.execute("select upload_sha256 from bundle where id = %s", (bundle_id,))
            row = cursor.fetchone()
        return bytes(row[0]) if row else None

    def digest_of(self, org_id: OrgId, bundle_id: UUID) -> str | None:
        with self._database.cursor() as cursor:
            cursor.execute(
                """select encode(content_sha256, 'hex') from bundle
                    where id = %s and org_id = %s""",
                (bundle_id, org_id),
            )
            row = cursor.fetchone()
        return row[0] if row else None

    def fill(self, bundle_id: UUID, content: bytes, encoding: str | None) -> bool:
        digest = hashlib.sha256(content).digest()
        with self._database.cursor() as cursor:
            # `%b` sends the bytes in binary. As text they would be twice as many.
            cursor.execute(
                """update bundle set content = %b, content_encoding = %s, content_sha256 = %s
                    where id = %s and (content is null or content_sha256 = %s)""",
                (content, encoding, digest, bundle_id, digest),
            )
            return cursor.rowcount == 1

    def bundle_content(self, sha256: str) -> Bundle | None:
        with self._database.cursor() as cursor:
            cursor.execute(
                """select content, content_encoding from bundle
                    where content_sha256 = %s limit 1""",
                (bytes.fromhex(sha256),),
            )
            row = cursor.fetchone()
        return Bundle(content=bytes(row[0]), encoding=row[1]) if row else None
