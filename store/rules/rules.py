"""Reads and writes rules. Each change adds a revision of the project's rule set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from flows.access.projects import ListPage
from rules.wire import ProjectScore, ProjectScoreBody, stored_config
from spans.errors import BadInput, NotFound
from spans.ids import OrgId, ProjectId, RuleId
from store.postgres.database import Cursor, Database
from store.postgres.paging import read_page
from store.postgres.rule_revisions import add_revision, lock_functions_shared
from store.scoring.record import ensure_leads
from store.scoring.supersede import SUPERSEDED

COLUMNS = "id, project_id, name, description, score_type, categories, config, position, created"


class StoredRules:
    """Implements flows.rules.rules.RuleStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create_rule(
        self, project_id: ProjectId, new_id: RuleId, body: ProjectScoreBody, *, replace: bool
    ) -> tuple[ProjectScore, bool]:
        """The rule of this name, and whether it existed before.

        An existing rule stays as it is, or is replaced by `body` if `replace` is set. Safe to
        repeat: the name is unique in the project.
        """
        with self._database.cursor() as cursor:
            _lock(cursor, project_id)
            cursor.execute(
                f"select {COLUMNS} from project_score where project_id = %s and name = %s",
                (project_id, body.name),
            )
            if (row := cursor.fetchone()) is None:
                cursor.execute(
                    f"""insert into project_score (id, project_id, name, description,
                                                   score_type, categories, config, position)
                        values (%s, %s, %s, %s, %s, %s, %s, %s) returning {COLUMNS}""",
                    (new_id, project_id, body.name, *_values(body)),
                )
                row = cursor.fetchone()
                assert row is not None  # noqa: S101 an insert returns its row
                add_revision(cursor, project_id)
                return _rule(row), False
            rule = _rule(row)
            if replace and _differs(rule, body):
                rule = _update(cursor, rule, body)
        return rule, True

    def find_rule(self, org_id: OrgId, rule_id: RuleId) -> ProjectScore | None:
        with self._database.cursor() as cursor:
            cursor.execute(
                f"""select {COLUMNS} from project_score
                     where id = %s and project_id in (
                       select id from project where org_id = %s and deleted_at is null)""",
                (rule_id, org_id),
            )
            row = cursor.fetchone()
        return _rule(row) if row else None

    def list_rules(
        self,
        org_id: OrgId,
        page: ListPage,
        project_id: ProjectId | None,
        score_type: str | None = None,
    ) -> list[ProjectScore]:
        with self._database.cursor() as cursor:
            rows = read_page(
                cursor,
                f"select {COLUMNS} from project_score",
                """project_id in (select id from project
                                   where org_id = %s and deleted_at is null)
                   and (%s::uuid is null or project_id = %s)
                   and (%s::text is null or score_type = %s)""",
                (org_id, project_id, project_id, score_type, score_type),
                page,
                table="project_score",
            )
        return [_rule(row) for row in rows]

    def change_rule(
        self, rule: ProjectScore, patch: Callable[[ProjectScore], ProjectScoreBody]
    ) -> ProjectScore:
        """Replace the rule by what `patch` makes of it. If equal, no revision is added.

        `patch` is called under the lock that every change of the project's rules takes. Raises
        NotFound if the rule was deleted, BadInput if another rule has the new name.
        """
        with self._database.cursor() as cursor:
            _lock(cursor, rule.project_id)
            cursor.execute(f"select {COLUMNS} from project_score where id = %s", (rule.id,))
            if (row := cursor.fetchone()) is None:
                raise NotFound("no such project score")
            present = _rule(row)
            body = patch(present)
            if body.name != present.name:
                cursor.execute(
                    "select 1 from project_score where project_id = %s and name = %s",
                    (rule.project_id, body.name),
                )
                if cursor.fetchone():
                    raise BadInput(f"another rule is named {body.name!r}", path="name")
            return _update(cursor, present, body) if _differs(present, body) else present

    def delete_rule(self, rule: ProjectScore) -> None:
        """Delete the rule and supersede its pending outcomes. Its scores stay.

        Where a superseded outcome was the lead, one of its followers becomes the lead.
        """
        with self._database.cursor() as cursor:
            _lock(cursor, rule.project_id)
            cursor.execute("delete from project_score where id = %s", (rule.id,))
            add_revision(cursor, rule.project_id)
            cursor.execute(
                f"""update outcome set {SUPERSEDED} from scorer_use
                     where scorer_use.origin_id = %s and outcome.use_no = scorer_use.use_no
                       and state = 'pending'
                    returning subject_seq""",
                (rule.id,),
            )
            ensure_leads(cursor, {seq for (seq,) in cursor.fetchall()})


def _lock(cursor: Cursor, project_id: ProjectId) -> None:
    """Keep all others from changing the project's rules, or the functions they may name."""
    lock_functions_shared(cursor, project_id)
    cursor.execute("select 1 from project where id = %s for update", (project_id,))


def _update(cursor: Cursor, rule: ProjectScore, body: ProjectScoreBody) -> ProjectScore:
    cursor.execute(
        f"""update project_score set name = %s, description = %s, score_type = %s,
                   categories = %s, config = %s, position = %s
             where id = %s returning {COLUMNS}""",
        (body.name, *_values(body), rule.id),
    )
    row = cursor.fetchone()
    assert row is not None  # noqa: S101 the project's lock kept it there
    add_revision(cursor, rule.project_id)
    return _rule(row)


def _values(body: ProjectScoreBody) -> tuple[Any, ...]:
    config = stored_config(body)
    return (
        body.description, body.score_type,
        None if body.categories is None else orjson.dumps(body.categories).decode(),
        None if config is None else orjson.dumps(config).decode(), body.position,
    )


def _differs(rule: ProjectScore, body: ProjectScoreBody) -> bool:
    return (
        rule.name, rule.description, rule.score_type, rule.categories, rule.config,
        rule.position,
    ) != (
        body.name, body.description, body.score_type, body.categories, stored_config(body),
        body.position,
    )


def _rule(row: tuple[Any, ...]) -> ProjectScore:
    (rule_id, project_id, name, description, score_type, categories, config, position,
     created) = row
    return ProjectScore(
        id=RuleId(rule_id), project_id=ProjectId(project_id), name=name,
        description=description, score_type=score_type, categories=categories, config=config,
        position=position, created=created,
    )
