"""Pending outcomes that are not to be run any more: what they would say is shown nowhere.

A worker that runs one already finds it closed, and its result is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import groupby
from operator import attrgetter

from scorers.function import FUNCTION
from spans.ids import FunctionId, OrgId
from spans.outcome import OutcomeKey
from spans.scoring import Role
from store.database import Cursor

SUPERSEDED = """
    state = 'superseded', finished_at = now(), owner = null, lease_until = null
"""
OTHER_VERSIONS = f"""
    update outcome set {SUPERSEDED}
      from unnest(%s::text[], %s::uuid[], %s::text[], %s::text[])
             as wanted(subject, rule, kind, scorer)
     where project_id = %s and object_id = %s and subject_id = wanted.subject
       and origin_id = wanted.rule and scorer_kind = wanted.kind
       and outcome.scorer = wanted.scorer and role = '{Role.LIVE}' and state = 'pending'
       and id <> all(%s)
"""
OF_FUNCTIONS = f"""
    update outcome set {SUPERSEDED}
     where project_id in (select id from project where org_id = %s) and origin_id is not null
       and scorer_kind = '{FUNCTION}' and scorer = any(%s) and state = 'pending'
"""


def supersede_other_versions(cursor: Cursor, asked: Iterable[OutcomeKey]) -> None:
    """What waits for another version of a scorer than the one that its rule asks for now:
    told late, its score would replace the newer one. The rows are locked.

    Shadows stay: their scores replace nothing.
    """
    live = sorted(
        (key for key in asked if key.role is Role.LIVE), key=attrgetter("object")
    )
    for where, group in groupby(live, key=attrgetter("object")):
        keys = list(group)
        cursor.execute(
            OTHER_VERSIONS,
            (
                [key.subject_id for key in keys],
                [key.origin_id for key in keys],
                [key.scorer.kind for key in keys],
                [key.scorer.name for key in keys],
                where.project_id,
                where.object_id,
                [key.id for key in keys],
            ),
        )


def supersede_of_functions(
    cursor: Cursor, org_id: OrgId, function_ids: Collection[FunctionId]
) -> None:
    """What waits for functions that have gone. Nothing else shares a run with it."""
    cursor.execute(OF_FUNCTIONS, (org_id, [str(each) for each in function_ids]))
