"""Revisions of a project's rule set: its rules, and the functions that they name.

A revision holds each function at its version of that moment, so that a match record tells
which one was in force. Who changes rules shares a lock of the organisation, who changes
functions has it alone: no revision is made of a function that is just being changed.
"""

from __future__ import annotations

from collections.abc import Collection

from rules.wire import ONLINE
from spans.errors import Contended
from spans.ids import FunctionId, OrgId, ProjectId
from store.postgres.database import Cursor

# The project's row is locked by the raise of its revision: changes of its rules queue up.
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

# `for no key update`: whoever makes a project or a key may go on meanwhile.
ALONE = "select from organization where id = %s for no key update"
SHARED = """
    select from organization where id = (select org_id from project where id = %s) for share
"""


def add_revision(cursor: Cursor, project_id: ProjectId) -> None:
    """Raise the project's revision, to what its rules and functions are now."""
    cursor.execute(NEW_REVISION.encode(), {"project": project_id})


def lock_functions_shared(cursor: Cursor, project_id: ProjectId) -> None:
    """Keep the organisation's functions as they are. The first lock of who changes rules."""
    cursor.execute(SHARED, (project_id,))


def lock_revision(cursor: Cursor, project_id: ProjectId, revision: int) -> None:
    """Keep a project's rules as they were when something was decided by them, until that is
    written. Raises Contended where they, or the project, have gone meanwhile: then it is
    decided anew."""
    cursor.execute(
        """select rules_revision from project where id = %s and deleted_at is null
              for share""",
        (project_id,),
    )
    if cursor.fetchone() != (revision,):
        raise Contended("the project's rules have changed: send this again")


def lock_functions_exclusively(cursor: Cursor, org_id: OrgId) -> None:
    """Be the only one that changes the organisation's functions. The first lock."""
    cursor.execute(ALONE, (org_id,))


def add_revisions_naming(
    cursor: Cursor, org_id: OrgId, function_ids: Collection[FunctionId]
) -> None:
    """New revisions for every project whose rules name one of the functions."""
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
