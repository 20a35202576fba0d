"""Supersedes pending outcomes whose score could no longer be shown.

If a worker is running such an outcome already, its result is refused, because the outcome is
no longer pending.
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
# `coalesce` hides origin_id from the planner. A plain condition on it would let the planner
# choose the index by rule, and read the rule's whole backlog (docs/decisions/0008).
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
    """Supersede pending outcomes of other versions of the scorers that `asked` names.

    For each outcome in `asked`, the rule wants this version of the scorer now. An outcome of
    an older version, if it ran later, would replace the score of the newer one. Outcomes of
    shadows stay, since their scores replace nothing.

    The caller holds the locks of the rows.
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
    """Supersede the pending outcomes of functions that were deleted.

    No outcome of another scorer shares a run with them, so no new lead is needed.
    """
    cursor.execute(OF_FUNCTIONS, (org_id, [str(each) for each in function_ids]))
