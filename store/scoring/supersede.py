"""Supersedes pending outcomes whose score could no longer be shown.

If a worker is running such an outcome already, its result is refused, because the outcome is
no longer pending.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from uuid import UUID

from scorers.functions.version import FUNCTION
from spans.ids import FunctionId, OrgId, RowSeq
from spans.scoring import Role
from spans.work import Assignment
from store.postgres.database import Cursor
from store.postgres.leases import RELEASED, by_key

SUPERSEDED = f"state = 'superseded', finished_at = now(), {RELEASED}"
OTHER_VERSIONS = f"""
    update outcome set {SUPERSEDED}
      from unnest(%s::bigint[], %s::bigint[]) as wanted(seq, version), scorer_use
     where outcome.subject_seq = wanted.seq and {by_key("outcome.state = 'pending'")}
       and outcome.role = '{Role.LIVE}' and scorer_use.use_no = outcome.use_no
       and scorer_use.origin_id = %s and scorer_use.scorer_kind = %s and scorer_use.scorer = %s
       and (scorer_use.scorer_version <> %s or outcome.subject_version <> wanted.version)
"""
OF_FUNCTIONS = f"""
    update outcome set {SUPERSEDED}
      from scorer_use, object, project
     where scorer_use.scorer = any(%s) and scorer_use.scorer_kind = '{FUNCTION}'
       and outcome.use_no = scorer_use.use_no and outcome.state = 'pending'
       and object.object_no = outcome.object_no and project.id = object.project_id
       and project.org_id = %s
"""


def supersede_other_versions(cursor: Cursor, assignments: Iterable[Assignment]) -> None:
    """Supersede pending outcomes of other versions of the scorers that are asked for.

    For each request of the assignments, the rule wants this version of the scorer now. An
    outcome of an older version, if it ran later, would replace the score of the newer one.
    Outcomes of shadows stay, since their scores replace nothing.

    The caller holds the locks of the rows.
    """
    wanted: dict[tuple[UUID, str, str, str], dict[RowSeq, int]] = {}
    for assignment in assignments:
        subject = assignment.subject
        for asked in assignment.asked:
            use = asked.use
            if use.role is Role.LIVE:
                slot = use.origin.id, use.scorer.kind, use.scorer.name, use.scorer.version
                wanted.setdefault(slot, {})[subject.seq] = subject.content_xact
    for slot, rows in wanted.items():
        cursor.execute(OTHER_VERSIONS, (list(rows), list(rows.values()), *slot))


def supersede_outcomes_of_functions(
    cursor: Cursor, org_id: OrgId, function_ids: Collection[FunctionId]
) -> None:
    """Supersede the pending outcomes of functions that were deleted.

    No outcome of another scorer shares a run with them, so no new lead is needed.
    """
    cursor.execute(OF_FUNCTIONS, ([str(each) for each in function_ids], org_id))
