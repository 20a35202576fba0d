"""Adds revisions of a project's rule set: its rules, and the functions that they name.

A revision is added whenever a rule of the project changes, or a function that its rules name.
It holds each function at the version then in force, so that a match record tells which version
that was. A revision itself never changes.

A revision must not contain a function that another transaction is changing. So a transaction
that changes rules first takes a shared lock of the organisation, and one that changes
functions first takes it exclusively.
"""

from __future__ import annotations

from collections.abc import Collection

from rules.wire import ONLINE
from spans.errors import Contended
from spans.ids import FunctionId, OrgId, ProjectId
from store.postgres.database import Cursor

# The update locks the project's row, so that changes of its rules happen one after the other.
NEW_REVISION = f"""
    with project as (
      update project set rules_revision = rules_revision + 1 where id = %(project)s
      returning id, rules_revision),
    rule as (
      select * from project_score
       where project_id = %(project)s and score_type = '{ONLINE}'),
    named as (
      select distinct (scorer ->> 'id')::uuid as id, (scorer ->> 'version')::bigint as pin
        from rule, jsonb_array_elements(config #> '{{online,scorers}}') scorer
       where scorer ->> 'type' = 'function')
    insert into rule_set (project_id, revision, rules, functions)
    select project.id, project.rules_revision,
           coalesce((select jsonb_agg(to_jsonb(rule)) from rule), '[]'),
           coalesce((
             select jsonb_agg(jsonb_build_object(
                      'id', function.id, 'version', present.version::text,
                      'pinned', pin is not null, 'name', present.name,
                      'kind', present.kind, 'queue', present.queue,
                      'is_deleted', function.deleted_at is not null,
                      'shadow_version', shadow.version::text, 'shadow_queue', shadow.queue,
                      'shadow_rate', shadow_rate))
               from named
               join function on function.id = named.id
               join function_version present on present.function_id = function.id
                and present.version = coalesce(pin, function.version)
               left join function_version shadow on pin is null
                and shadow.function_id = function.id
                and shadow.version = function.shadow_version), '[]')
      from project
"""

# `for no key update` lets others add projects and keys of the organisation meanwhile.
EXCLUSIVE = "select from organization where id = %s for no key update"
SHARED = """
    select from organization where id = (select org_id from project where id = %s) for share
"""


def add_revision(cursor: Cursor, project_id: ProjectId) -> None:
    """Add a revision with the project's rules and functions as they are now."""
    cursor.execute(NEW_REVISION.encode(), {"project": project_id})


def lock_functions_shared(cursor: Cursor, project_id: ProjectId) -> None:
    """Keep the functions of the project's organisation from changing.

    Call this before any other lock in a transaction that changes rules.
    """
    cursor.execute(SHARED, (project_id,))


def lock_revision(cursor: Cursor, project_id: ProjectId, revision: int) -> None:
    """Keep the project's rules at `revision` until the transaction ends.

    Call this before writing what was decided by that revision. Raises Contended if the rules
    have changed since, or the project was deleted: the caller must decide again.
    """
    cursor.execute(
        """select rules_revision from project where id = %s and deleted_at is null
              for share""",
        (project_id,),
    )
    if cursor.fetchone() != (revision,):
        raise Contended("the project's rules have changed: send this again")


def lock_functions_exclusively(cursor: Cursor, org_id: OrgId) -> None:
    """Keep all others from changing the organisation's functions or rules.

    Call this before any other lock in a transaction that changes functions.
    """
    cursor.execute(EXCLUSIVE, (org_id,))


def add_revisions_naming(
    cursor: Cursor, org_id: OrgId, function_ids: Collection[FunctionId]
) -> None:
    """Add a revision to every project whose rules name one of the functions."""
    cursor.execute(
        f"""select id from project
             where org_id = %s and deleted_at is null and id in (
               select project_id from project_score,
                      jsonb_array_elements(config #> '{{online,scorers}}') scorer
                where score_type = '{ONLINE}' and scorer ->> 'type' = 'function'
                  and scorer ->> 'id' = any(%s))
             order by id for no key update""".encode(),
        (org_id, [str(function_id) for function_id in function_ids]),
    )
    for (project_id,) in cursor.fetchall():
        add_revision(cursor, project_id)
