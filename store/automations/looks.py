"""Reads what changed in a project's logs for its automations, and writes what they found."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from automations.payload import Site
from automations.watches import Watch, Watches, are_compiled
from automations.windows import MatchWindow
from flows.automations.evaluate import LookedRow, LookResult, NoLook, Notification
from spans.ids import OrgId, ProjectId, RowSeq, Xact
from store.automations.clock import NOW, time_now
from store.automations.definitions import COLUMNS, automation_of
from store.automations.set_back import follow_clock
from store.automations.states import lock_due, lock_windows, save_windows
from store.postgres.database import Cursor, Database, follow_indexes
from store.postgres.row_deletion import DELETE_WATCHED
from store.postgres.row_views import EXPRESSIONS, one_row
from store.postgres.versions import settled_version

GAP = timedelta(seconds=2.5)
"""Two marks of the time are a second apart, on a busy machine two. If there is more than this
between them, nobody looked, and a row between them counts as stored right after the first."""

COMPILE_S = 0.3
"""For how long a look compiles filters, seconds. If there are more, the next look goes on."""

MERGE_LOOKS = "1 minute"
"""For how long looks that matched nothing are told by one row of `evaluation`."""

MARK = f"""
    insert into version_time (xact, first_at, last_at)
    select %s, {NOW}, {NOW} where exists (select from automation_project where active > 0)
        on conflict (xact) do update set last_at = greatest(version_time.last_at, {NOW})
"""
WAITING = """
    select project_id from automation_project project
     where active > 0
       and (select deleted_at is null from project gone where gone.id = project.project_id)
       and (
       exists (select from span_head
                where span_head.object_no = project.object_no and xact > 0
                  and (xact, seq) > (project.read_xact, project.read_seq))
       or exists (select from automation_state state
                   where state.project_id = project.project_id and due_at <= now())
       or exists (select from automation_state state
                   where state.project_id = project.project_id and not has_baseline
                     and is_active))
     order by looked_at
"""
LOCK_PROJECT = """
    select object_no, revision, read_xact, read_seq, project.name, organization.id,
           organization.name
      from automation_project
      join project on project.id = project_id
      join organization on organization.id = org_id
     where project_id = %s and project.deleted_at is null
       for update of automation_project skip locked
"""
WATCHES = f"""
    select watch_no, state.automation_no, start_xact, has_baseline, {COLUMNS}
      from automation join automation_state state using (automation_no)
     where automation.project_id = %s and is_active
"""
# In the order of their versions, and of their places among those of one version. A score span
# has computed scores that nobody computed for it: it is read over.
CHANGED = """
    select seq, xact, computed_scores is not null and computed_by is null from span_head
     where object_no = %(object)s and xact > 0
       and (xact, seq) > (%(xact)s, %(seq)s) and xact <= %(upto)s
     order by xact, seq limit %(limit)s
"""
BASELINE = """
    select seq, xact, computed_scores is not null and computed_by is null from span_head
     where object_no = %(object)s and xact > 0 and xact <= %(upto)s
     order by xact desc, seq desc limit %(limit)s
"""
ROWS = f"""
    select row.seq, row.has_base and row.deleted_at is null, watched.watches, {{columns}}
      from unnest(%s::integer[], %s::bigint[]) as asked(object_no, seq)
     cross join lateral ({one_row("logged_span")}) row
      left join lateral (
        select watches from watched_row
         where watched_row.object_no = asked.object_no and watched_row.seq = asked.seq
         offset 0) watched on true
"""
HAS_BASELINE = """
    update automation_state set has_baseline = true
     where automation_no = any(%s::integer[]) and not has_baseline
"""
SAVE_WATCHED = """
    insert into watched_row (object_no, seq, watches)
    select %s, seq, watches::integer[]
      from unnest(%s::bigint[], %s::text[]) as new(seq, watches) order by seq
        on conflict (object_no, seq) do update set watches = excluded.watches
"""
ADD_NOTIFICATIONS = """
    insert into delivery (id, project_id, automation_no, is_test, state, time_start, time_end,
                          matches, first_at, body)
    select id, %s, automation_no, false, 'pending', time_start, time_end, matches, first_at,
           body
      from unnest(%s::uuid[], %s::integer[], %s::timestamptz[], %s::timestamptz[], %s::bigint[],
                  %s::timestamptz[], %s::bytea[])
           as new(id, automation_no, time_start, time_end, matches, first_at, body)
"""
CARRY = """
    update delivery set carried_by = new.id
      from unnest(%s::uuid[], %s::integer[]) as new(id, automation_no)
     where delivery.automation_no = new.automation_no and state = 'abandoned'
       and carried_by is null and not is_test
"""
READ_UPTO = """
    update automation_project set read_xact = %s, read_seq = %s, looked_at = %s
     where project_id = %s
"""
# Another look that matched nothing is told by the row of the last one.
EXTEND = f"""
    update evaluation
       set until = %(at)s, looks = looks + 1, upto_xact = %(upto)s,
           rows_read = rows_read + %(rows)s
     where evaluation_no = (
             select evaluation_no from evaluation where object_no = %(object)s
              order by object_no desc, evaluation_no desc limit 1)
       and automation_nos = '{{}}' and automations = %(automations)s
       and looked_at > %(at)s::timestamptz - interval '{MERGE_LOOKS}'
"""
ADD_EVALUATION = """
    insert into evaluation (object_no, looked_at, until, from_xact, upto_xact, rows_read,
                            automations, automation_nos, matches, decisions, due_ats)
    values (%(object)s, %(at)s, %(at)s, %(from)s, %(upto)s, %(rows)s, %(automations)s,
            %(nos)s::integer[], %(matches)s::integer[], %(decisions)s::text[],
            %(due_ats)s::timestamptz[])
"""
# With the mark before the first of these versions, and the one that has the last of them.
MARKS = """
    select xact, first_at, last_at from version_time
     where xact >= coalesce((select max(xact) from version_time where xact < %(from)s), 0)
       and xact <= coalesce((select min(xact) from version_time where xact >= %(upto)s),
                            %(upto)s)
     order by xact
"""


class Looks:
    """Implements flows.automations.evaluate.LookStore.

    The automations of a project are kept, compiled, until one of them changes. `app_url` is
    the address of the pages that notifications link to.
    """

    def __init__(self, database: Database, *, app_url: str) -> None:
        self._database = database
        self._app_url = app_url
        self._kept: dict[UUID, tuple[int, Watches]] = {}

    def mark_time(self) -> None:
        with self._database.cursor() as cursor:
            follow_clock(cursor)
            cursor.execute(MARK, (settled_version(cursor),))

    def waiting(self) -> Sequence[ProjectId]:
        with self._database.cursor() as cursor:
            cursor.execute(WAITING)
            return [project_id for (project_id,) in cursor]

    @contextmanager
    def look(self, project_id: ProjectId) -> Iterator[StoredLook | NoLook]:
        with self._database.cursor() as cursor:
            cursor.execute(LOCK_PROJECT, (project_id,))
            if (row := cursor.fetchone()) is None:
                yield NoLook.TAKEN
                return
            object_no, revision, read_xact, read_seq, project, org_id, org = row
            watches = self._watches(cursor, project_id, revision)
            if watches is None:
                yield NoLook.UNREADY
                return
            site = Site(
                org_id=OrgId(org_id), org_name=org, project_name=project, app_url=self._app_url
            )
            yield StoredLook(
                cursor, Progress(project_id, object_no, read_xact, read_seq), site,
                watches, forget=lambda: self._kept.pop(project_id, None),
            )

    def _watches(self, cursor: Cursor, project_id: UUID, revision: int) -> Watches | None:
        """The watches of the project; None while their filters are still to be compiled."""
        kept = self._kept.get(project_id)
        if kept is not None and kept[0] == revision:
            return kept[1]
        cursor.execute(WATCHES, (project_id,))
        found = [
            Watch(
                no=no, automation_no=automation_no, start_xact=start_xact,
                has_baseline=has_baseline, automation=automation_of(values),
            )
            for no, automation_no, start_xact, has_baseline, *values in cursor
        ]
        filters = (watch.automation.btql_filter for watch in found)
        if not are_compiled(filters, within_s=COMPILE_S):
            return None
        watches = Watches(found)
        self._kept[project_id] = revision, watches
        return watches


class Progress(NamedTuple):
    """How far the changes of a project's logs have been read."""

    project_id: ProjectId
    object_no: int
    xact: Xact
    seq: RowSeq


class StoredLook:
    """Implements flows.automations.evaluate.Look in the transaction of `cursor`."""

    def __init__(
        self, cursor: Cursor, start: Progress, site: Site, watches: Watches, *,
        forget: Callable[[], object],
    ) -> None:
        self.site = site
        self.watches = watches
        self._cursor = cursor
        self._start = start
        self._upto = start
        self._forget = forget
        # What can be read up to here has been stored by this time.
        self._settled = settled_version(cursor)
        self.at = time_now(cursor)
        self._names = sorted(watches.columns & EXPRESSIONS.keys())

    def baseline(self, rows_max: int) -> Sequence[LookedRow]:
        watches = self.watches
        starts = [watches.watch(no).start_xact for no in watches.without_baseline]
        return self._read(BASELINE, {"upto": max(starts), "limit": rows_max})[0]

    def changed(self, rows_max: int) -> Sequence[LookedRow]:
        rows, last = self._read(
            CHANGED,
            {
                "xact": self._start.xact, "seq": self._start.seq, "upto": self._settled,
                "limit": rows_max,
            },
        )
        if last is not None:
            self._upto = self._start._replace(xact=last[0], seq=last[1])
        return rows

    def windows(self, automation_nos: Iterable[int]) -> Mapping[int, MatchWindow]:
        return lock_windows(self._cursor, automation_nos)

    def due(self, most: int) -> Mapping[int, MatchWindow]:
        return lock_due(self._cursor, self._start.project_id, self.at, most)

    def write(self, result: LookResult) -> None:
        """Write all of it. Rows of a version that was read twice are written alike."""
        self._save_watched(result.watched)
        if self.watches.without_baseline:
            fresh = [self.watches.watch(no) for no in self.watches.without_baseline]
            self._cursor.execute(HAS_BASELINE, ([each.automation_no for each in fresh],))
            self._forget()
        if result.notifications:
            self._add_notifications(result.notifications)
        save_windows(
            self._cursor, result.windows,
            {each.automation_no: each.id for each in result.notifications},
        )
        if self._upto != self._start:
            self._add_evaluation(result)
        self._cursor.execute(
            READ_UPTO, (self._upto.xact, self._upto.seq, self.at, self._start.project_id)
        )

    def _read(
        self, statement: str, values: dict[str, object]
    ) -> tuple[list[LookedRow], tuple[Xact, RowSeq] | None]:
        """The rows that are no score spans, and the version and place of the last row."""
        follow_indexes(self._cursor)
        self._cursor.execute(statement, {"object": self._start.object_no, **values})
        heads: list[tuple[RowSeq, Xact, bool]] = self._cursor.fetchall()
        if not heads:
            return [], None
        stored_at = self._times(heads[0][1], heads[-1][1])
        xacts = {seq: xact for seq, xact, is_score_span in heads if not is_score_span}
        columns = ", ".join(EXPRESSIONS[name] for name in self._names)
        self._cursor.execute(
            ROWS.format(columns=columns), ([self._start.object_no] * len(xacts), list(xacts))
        )
        rows = [
            LookedRow(
                seq=seq, xact=xacts[seq], stored_at=stored_at(xacts[seq]),
                watches=tuple(watches or ()),
                view=dict(zip(self._names, shown, strict=True)) if is_shown else None,
            )
            for seq, is_shown, watches, *shown in self._cursor
        ]
        return rows, (heads[-1][1], heads[-1][0])

    def _times(self, first: Xact, last: Xact) -> Callable[[Xact], datetime]:
        """A function that gives the time at which a version between these was stored."""
        self._cursor.execute(MARKS, {"from": min(first, last), "upto": max(first, last)})
        marks: list[tuple[Xact, datetime, datetime]] = self._cursor.fetchall()
        versions = [xact for xact, _, _ in marks]

        def stored_at(xact: Xact) -> datetime:
            place = bisect_left(versions, xact)
            later = marks[place][1] if place < len(marks) else self.at
            if place == 0:
                return later
            earlier = marks[place - 1][2]
            return earlier if later - earlier > GAP else later

        return stored_at

    def _save_watched(self, watched: Mapping[RowSeq, tuple[int, ...]]) -> None:
        object_no = self._start.object_no
        kept = {seq: watches for seq, watches in watched.items() if watches}
        gone = sorted(watched.keys() - kept.keys())
        if kept:
            texts = {watches: str(list(watches))[1:-1] for watches in set(kept.values())}
            self._cursor.execute(
                SAVE_WATCHED,
                (object_no, list(kept), [f"{{{texts[each]}}}" for each in kept.values()]),
            )
        if gone:
            self._cursor.execute(DELETE_WATCHED, ([object_no] * len(gone), gone))

    def _add_notifications(self, notifications: Sequence[Notification]) -> None:
        rows = [
            (
                each.id, each.automation_no, each.report.time_start, each.report.time_end,
                each.report.matches, each.report.first_at, each.body,
            )
            for each in notifications
        ]
        columns: list[list[Any]] = list(map(list, zip(*rows, strict=True)))
        self._cursor.execute(CARRY, (columns[0], columns[1]))
        self._cursor.execute(ADD_NOTIFICATIONS, (self._start.project_id, *columns))

    def _add_evaluation(self, result: LookResult) -> None:
        made = result.evaluations
        values = {
            "object": self._start.object_no, "at": self.at, "from": self._start.xact,
            "upto": self._upto.xact, "rows": result.rows_read,
            "automations": len(self.watches),
            "nos": [each.automation_no for each in made],
            "matches": [each.matches for each in made],
            "decisions": [each.decision.value for each in made],
            "due_ats": [each.due_at for each in made],
        }
        if not made:
            self._cursor.execute(EXTEND, values)
            if self._cursor.rowcount:
                return
        self._cursor.execute(ADD_EVALUATION, values)
