"""Pending outcomes that are not to be run any more: what they would say is shown nowhere.

A worker that runs one already finds it closed, and its result is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from uuid import UUID

from scorers.functions.version import FUNCTION
from spans.ids import FunctionId, OrgId
from spans.outcome import OutcomeKey
from spans.row import ObjectRef
from spans.scoring import Role
from store.postgres.database import Cursor
from store.postgres.leases import RELEASED

SUPERSEDED = f"state = 'superseded', finished_at = now(), {RELEASED}"
# A condition on origin_id itself would have the planner read all that waits for the rule, by
# an index that is there for that (docs/decisions/0008).
OTHER_VERSIONS = f"""
    update outcome set {SUPERSEDED}
     where project_id = %s and object_id = %s and subject_id = any(%s)
       and coalesce(origin_id = %s, false) and scorer_kind = %s and scorer = %s
       and role = '{Role.LIVE}' and state = 'pending' and id <> all(%s)
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
    wanted: dict[tuple[ObjectRef, UUID, str, str], list[OutcomeKey]] = {}
    for key in asked:
        if key.role is Role.LIVE:
            slot = key.object, key.origin.id, key.scorer.kind, key.scorer.name
            wanted.setdefault(slot, []).append(key)
    for (where, rule_id, kind, name), keys in wanted.items():
        cursor.execute(
            OTHER_VERSIONS,
            (
                where.project_id, where.object_id, [key.subject_id for key in keys], rule_id,
                kind, name, [key.id for key in keys],
            ),
        )


def supersede_outcomes_of_functions(
    cursor: Cursor, org_id: OrgId, function_ids: Collection[FunctionId]
) -> None:
    """What waits for functions that have gone. Nothing else shares a run with it."""
    cursor.execute(OF_FUNCTIONS, (org_id, [str(each) for each in function_ids]))
