"""What the automations of a project share: how far its logs have been read, and how many watch.

Every change of an automation locks its project first, and so does every look at the project's
logs. The locks of single automations come after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from spans.errors import NotFound
from spans.ids import ProjectId, Xact
from spans.row import project_logs
from store.automations.clock import NOW
from store.postgres.database import Cursor
from store.postgres.numbers import Numbers
from store.postgres.versions import settled_version

LAST_SEQ = 2**63 - 1
"""More than the place of any row: all rows of a version have been read."""

ADD = """
    insert into automation_project (project_id, object_no, read_xact, read_seq, looked_at)
    select id, %s, 0, 0, now() from project where id = %s and deleted_at is null
        on conflict do nothing
"""
LOCK = f"select {NOW} from automation_project where project_id = %s for update"
# While none was active, nobody read. Reading begins with what is stored from now on.
COUNT = """
    update automation_project
       set revision = revision + 1, active = active + %(more)s,
           read_xact = case when active = 0 then %(settled)s else read_xact end,
           read_seq = case when active = 0 then %(last)s else read_seq end
     where project_id = %(project)s
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedProject:
    """A project whose automations nobody else changes or evaluates until the transaction ends.

    What is stored after `settled` is new to an automation that begins now, at `now` by
    PostgreSQL's clock.
    """

    id: ProjectId
    settled: Xact
    now: datetime


def lock_project(cursor: Cursor, numbers: Numbers, project_id: ProjectId) -> LockedProject:
    """Lock the automations of a project, which need not have any.

    Raises NotFound if the project was deleted meanwhile.
    """
    cursor.execute(ADD, (numbers.object_no(project_logs(project_id)), project_id))
    cursor.execute(LOCK, (project_id,))
    if (row := cursor.fetchone()) is None:
        raise NotFound("no such project")
    return LockedProject(id=project_id, settled=settled_version(cursor), now=row[0])


def count_change(cursor: Cursor, project: LockedProject, *, more_active: int) -> None:
    """Tell all processes that automations have changed, and that so many more are active."""
    cursor.execute(
        COUNT,
        {
            "project": project.id, "more": more_active, "settled": project.settled,
            "last": LAST_SEQ,
        },
    )
