"""Counts the rows that a job would take, and selects those that it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

from psycopg.errors import QueryCanceled

from rules.model import Rule
from rules.rescore.model import JobScorer, JobState, RescoreJob, Selection
from rules.rescore.selection_count import ScorerCount, SelectionCount
from spans.errors import BadInput
from spans.ids import OrgId, ProjectId, RowSeq
from spans.row import ObjectRef
from store.btql.query import advice
from store.btql.text import execute
from store.postgres.database import Cursor, Database, follow_indexes
from store.postgres.row_views import IS_MADE_BY_SCORER_SQL
from store.rescore.candidates import HAS_ENDED, Candidates, HeadPage, HeadPlace, candidates

STEP_RECORDS_MAX = 500
"""Rows of one step: as many as one claim of the matcher, so a step takes as long as a claim."""

LOOKED_MAX = 20_000
"""Heads that one page looks at: 0.1 to 0.4 s of work, in which nobody can pause the job."""

LOOKED_FIRST = 500
"""Heads of the first page."""

LOOKED_MIN = 50
"""The fewest heads that a page shrinks to."""

PAGE_S = 0.5
"""How long a page of a selection may take, seconds: a longer one has the next look at fewer
heads. A pause or a cancellation waits for it, and is to take effect within 2 s."""

PAGE_TIMEOUT_S = 5.0
"""After this time, seconds, a page is given up, and a smaller one is tried. The job fails if
its smallest page takes longer."""

MEASURED_OF_PAGE = 50
"""About so many rows of each page are measured: some hundreds to some thousands of all."""

IDS_AT_ONCE = 1000
"""Ids that one statement looks up."""

REST_AFTER = 60_000
"""Heads of an object after which a count may read the rest in one go."""

REST_SHARE = 0.25
"""The least share of all heads that are the object's, if the rest of it is read in one go: then
whole tables are read, four times as many rows as needed at most, without a look at an index for
each of them."""

SAMPLED_BLOCKS = 200
"""Blocks of the table of heads by which that share is estimated: some ten thousand heads."""

PLAN_ADVICE = "the selection could not be counted in {seconds:g} s: {advice}"

ORG = "select org_id from project where id = %s"
LOCK = """
    select state, object_nos, object_place, before_created, before_seq,
           coalesce((select max(step_no) + 1 from rescore_step
                      where rescore_step.job_no = rescore_job.job_no), 0),
           case when %s then (select coalesce(sum(records), 0) from rescore_step
                               where rescore_step.job_no = rescore_job.job_no) end
      from rescore_job where job_no = %s for update skip locked
"""
ADD_STEP = """
    insert into rescore_step (job_no, step_no, object_no, records, outcomes, seqs, versions,
                              wants)
    values (%s, %s, %s, %s, %s, %s::bigint[], %s::bigint[], %s::integer[])
"""
MOVE_ON = """
    update rescore_job set object_place = %s, before_created = %s, before_seq = %s
     where job_no = %s
"""
BEGIN = f"""
    update rescore_job
       set selected_at = %(now)s, started_at = coalesce(started_at, %(now)s),
           state = '{JobState.RUNNING}'
     where job_no = %(job_no)s
"""
FAIL = f"""
    update rescore_job
       set state = '{JobState.FAILED}', failure = %s, finished_at = %s
     where job_no = %s and state = '{JobState.PLANNED}'
"""
# Reads some blocks of the table, wherever they are.
SAMPLE = """
    select count(*) filter (where object_no = %(object)s), count(*) from span_head
     tablesample system ((select least(
       100.0, 100.0 * %(blocks)s / greatest(1, pg_relation_size('span_head') / 8192.0))))
"""
# Hashes and scans of whole tables, by several processes, until the transaction ends. A million
# rows of a project are a hash of 55 MB, for which three processes may take 96 MB together.
READ_TABLES = """
    select set_config('enable_seqscan', 'on', true), set_config('enable_hashjoin', 'on', true),
           set_config('enable_nestloop', 'off', true), set_config('work_mem', '16MB', true),
           set_config('max_parallel_workers_per_gather', '2', true)
"""
FOLLOW_KEYS = """
    select set_config('enable_seqscan', 'off', true), set_config('enable_nestloop', 'on', true),
           set_config('enable_hashjoin', 'off', true),
           set_config('max_parallel_workers_per_gather', '0', true)
"""
# Whether there is a row, whether it has ended, and whether a scorer made it.
NAMED = f"""
    select row.id, row.has_base and {HAS_ENDED},
           row.scored_version is not null or {IS_MADE_BY_SCORER_SQL}
      from unnest(%s::text[]) as wanted(id)
     cross join lateral (
       select seq, id, has_base, metrics, span_attributes, scored_version from span
        where span.object_no = %s and span.id = wanted.id offset 0) row
     cross join lateral (
       select deleted_at from span_head
        where span_head.object_no = %s and span_head.seq = row.seq offset 0) head
     where head.deleted_at is null
"""


class JobSelection:
    """Finds the rows of jobs, the newest first, by pages of heads. Thread-safe.

    A page has at most `looked_max` heads. Of an object with more than `rest_after`, a count may
    read the rest at once. `clock` gives seconds, to measure how long a page takes.
    """

    def __init__(
        self, database: Database, *, looked_max: int = LOOKED_MAX,
        rest_after: int = REST_AFTER, clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._clock = clock
        self._most = looked_max
        self._first = min(LOOKED_FIRST, looked_max)
        self._rest_after = rest_after
        self._looked: dict[int, int] = {}   # by the number of a job: heads of its next page

    def count(
        self, selection: Selection, scorers: Sequence[JobScorer], *,
        names: Sequence[frozenset[str]], rule: Rule | None, now: datetime, timeout_s: float,
    ) -> SelectionCount:
        """What the selection takes at present. Writes nothing.

        `names` are the names of each scorer's scores, `rule` is the rule that the selection
        names, and `now` is the time of its filter. All pages see the rows of one moment. Raises
        BadInput if a filter has an error, or counting takes longer than `timeout_s` seconds.
        """
        end = self._clock() + timeout_s
        numbers = self._database.numbers
        found = [number for where in selection.objects
                 if (number := numbers.find_object(where)) is not None]
        with self._database.cursor() as cursor:
            cursor.execute("set transaction isolation level repeatable read")
            asked = self._candidates(cursor, selection, scorers, rule, now)
            sums = _Sums(len(scorers))
            listed = [sorted(each) for each in names]
            try:
                for object_no in found:
                    self._count_object(
                        cursor, asked, object_no, sums, names=listed, end=end
                    )
                follow_indexes(cursor, timeout_s=max(0.001, end - self._clock()))
                unknown, unfinished, made = _named(cursor, found, selection.ids or ())
            except QueryCanceled as error:
                raise BadInput(
                    PLAN_ADVICE.format(seconds=timeout_s, advice=advice(asked.access))
                ) from error
        return SelectionCount(
            records=sums.records,
            scorers=tuple(
                ScorerCount(records=records, kept=kept) for records, kept in sums.scorers
            ),
            record_bytes=sums.record_bytes, measured=sums.measured, unknown=unknown,
            unfinished=unfinished, made_by_scorers=made,
        )

    def select_some(self, job: RescoreJob, *, rule: Rule | None, now: datetime) -> bool:
        """Writes steps for the rows of the job's next page of heads. Whether there was work.

        `rule` is the rule that the job names. When all is looked at, or the job has its most
        rows, the job begins to run. It fails if its filter has an error, or is too slow. Safe
        to repeat, and to kill: a page's steps and the place behind it are written at once, and
        a process that finds the job locked does nothing.
        """
        looked_max = self._looked.get(job.no, self._first)
        started = self._clock()
        try:
            with self._database.cursor() as cursor:
                follow_indexes(cursor, timeout_s=PAGE_TIMEOUT_S)
                try:
                    is_done = self._select(cursor, job, rule, looked_max, now)
                except QueryCanceled as error:
                    raise _TooSlow from error
        except _TooSlow:
            if looked_max > LOOKED_MIN:
                self._looked[job.no] = max(LOOKED_MIN, looked_max // 10)
                return True
            return self._fail(
                job,
                f"its filter takes longer than {PAGE_TIMEOUT_S:g} s on {LOOKED_MIN} rows: make "
                "another job with a simpler one",
                now,
            )
        except BadInput as error:
            return self._fail(job, str(error), now)
        if is_done is None:
            return False
        if is_done:
            self._looked.pop(job.no, None)
        else:
            took_s = self._clock() - started
            self._looked[job.no] = min(self._most, next_page(looked_max, took_s))
        return True

    def _select(
        self, cursor: Cursor, job: RescoreJob, rule: Rule | None, looked_max: int,
        now: datetime,
    ) -> bool | None:
        """Whether all rows are selected by now; None if the job is not there to be selected."""
        most = job.selection.records_max
        cursor.execute(LOCK, (most is not None, job.no))
        row = cursor.fetchone()
        if row is None or row[0] != JobState.PLANNED:
            return None
        _, object_nos, place, created, seq, step_no, selected = row
        is_done: bool = place > len(object_nos)
        if not is_done:
            asked = self._candidates(cursor, job.selection, job.scorers, rule, job.created)
            object_no = object_nos[place - 1]
            taken_max = None if most is None else most - int(selected)
            before = asked.start if created is None else HeadPlace(created, seq)
            looked, last, taken = _take(cursor, asked, HeadPage(
                object_no=object_no, way=asked.way(cursor, object_no), before=before,
                looked_max=looked_max, taken_max=taken_max,
            ))
            _add_steps(cursor, job, object_no, step_no, taken)
            if looked < looked_max:
                place, last = place + 1, None
            cursor.execute(MOVE_ON, (place, *(last or (None, None)), job.no))
            is_done = place > len(object_nos) or len(taken.seqs) == taken_max
        if is_done:
            cursor.execute(BEGIN, {"now": now, "job_no": job.no})
        return is_done

    def _candidates(
        self, cursor: Cursor, selection: Selection, scorers: Sequence[JobScorer],
        rule: Rule | None, now: datetime,
    ) -> Candidates:
        project_id = _project_of(selection.objects)
        cursor.execute(ORG, (project_id,))
        (org_id,) = cursor.fetchone() or (None,)
        if org_id is None:
            raise BadInput("the project is gone")
        return candidates(
            selection, scorers, project_id=project_id, org_id=OrgId(org_id), rule=rule, now=now
        )

    def _count_object(
        self, cursor: Cursor, asked: Candidates, object_no: int, sums: _Sums, *,
        names: Sequence[Sequence[str]], end: float,
    ) -> None:
        """Add what is taken of an object to the sums, until `end` by the clock."""
        most = asked.selection.records_max
        before, looked_max, measured, looked_at = asked.start, self._first, 1, 0
        while most is None or sums.records < most:
            follow_indexes(cursor, timeout_s=max(0.001, end - self._clock()))
            page = HeadPage(
                object_no=object_no, way=asked.way(cursor, object_no), before=before,
                looked_max=looked_max, taken_max=None if most is None else most - sums.records,
            )
            statement = asked.counting(page, names=names, measured=measured)
            row = execute(cursor, statement).fetchone()
            assert row is not None  # noqa: S101 the statement gives one row
            looked, created, seq, taken, *rest = row
            sums.add(taken, rest, weight=measured)
            if looked < looked_max:
                return
            before = HeadPlace(created, seq)
            measured = max(1, taken * self._most // (looked_max * MEASURED_OF_PAGE))
            looked_max = self._most
            looked_at += looked
            if looked_at - looked <= self._rest_after < looked_at and asked.may_read_all:
                if share_of_heads(cursor, object_no) < REST_SHARE:
                    continue
                cursor.execute(READ_TABLES)
                statement = asked.counting_rest(object_no, before, names=names)
                taken, *rest = execute(cursor, statement).fetchone() or (0,)
                sums.add(taken, rest, weight=measured)
                cursor.execute(FOLLOW_KEYS)
                return

    def _fail(self, job: RescoreJob, why: str, now: datetime) -> bool:
        self._looked.pop(job.no, None)
        with self._database.cursor() as cursor:
            cursor.execute(FAIL, (why, now, job.no))
            return cursor.rowcount > 0


def share_of_heads(cursor: Cursor, object_no: int) -> float:
    """About which share of all heads are those of the object, by a sample of their table."""
    cursor.execute(SAMPLE, {"object": object_no, "blocks": SAMPLED_BLOCKS})
    own, every = cursor.fetchone() or (0, 0)
    return own / every if every else 0.0


def next_page(looked: int, seconds: float) -> int:
    """How many heads the next page looks at, after one of `looked` that took so long."""
    wanted = int(looked * PAGE_S / max(seconds, 0.001))
    return max(LOOKED_MIN, min(wanted, 4 * looked))


class _TooSlow(Exception):
    """A page took longer than PAGE_TIMEOUT_S."""


class _Taken(NamedTuple):
    """The rows of a page that are taken: where, their versions, and what is wanted on each."""

    seqs: Sequence[RowSeq]
    versions: Sequence[int]
    wants: Sequence[int]


class _Sums:
    """What is counted so far. Of each page some rows are measured, and stand for the others."""

    def __init__(self, scorers: int) -> None:
        self.records = 0
        self.scorers = [(0, 0)] * scorers
        self.measured = 0
        self._bytes = 0
        self._weight = 0

    @property
    def record_bytes(self) -> float:
        """The mean size of a row, bytes."""
        return self._bytes / self._weight if self._weight else 0.0

    def add(self, records: int, rest: Sequence[int], *, weight: int) -> None:
        """Add a page, of which each measured row stands for `weight` rows."""
        self.records += records
        measured, size, *counts = rest
        self.measured += measured
        self._bytes += weight * int(size)
        self._weight += weight * measured
        pairs = zip(counts[::2], counts[1::2], strict=True)
        self.scorers = [
            (records + more, kept + more_kept)
            for (records, kept), (more, more_kept) in zip(self.scorers, pairs, strict=True)
        ]


def _take(
    cursor: Cursor, asked: Candidates, page: HeadPage
) -> tuple[int, HeadPlace | None, _Taken]:
    """How many heads were looked at, the last of them, and the rows that are taken."""
    row = execute(cursor, asked.selecting(page)).fetchone()
    assert row is not None  # noqa: S101 the statement gives one row
    looked, created, seq, *taken = row
    return looked, None if created is None else HeadPlace(created, seq), _Taken(*taken)


def _add_steps(
    cursor: Cursor, job: RescoreJob, object_no: int, step_no: int, taken: _Taken
) -> None:
    every = (1 << len(job.scorers)) - 1
    for number, start in enumerate(range(0, len(taken.seqs), STEP_RECORDS_MAX)):
        part = slice(start, start + STEP_RECORDS_MAX)
        wants = taken.wants[part]
        cursor.execute(
            ADD_STEP,
            (
                job.no, step_no + number, object_no, len(wants),
                sum(each.bit_count() for each in wants), taken.seqs[part],
                taken.versions[part],
                None if all(each == every for each in wants) else wants,
            ),
        )


def _named(
    cursor: Cursor, object_nos: Sequence[int], ids: Sequence[str]
) -> tuple[int, int, int]:
    """How many of the ids have no row in any object, one that has not ended, or one that a
    scorer made."""
    known: set[str] = set()
    unfinished = made = 0
    for object_no in object_nos:
        for start in range(0, len(ids), IDS_AT_ONCE):
            some = list(ids[start:start + IDS_AT_ONCE])
            cursor.execute(NAMED, (some, object_no, object_no))
            for row_id, has_ended, is_made in cursor:
                known.add(row_id)
                made += is_made
                unfinished += not has_ended and not is_made
    return len(ids) - len(known), unfinished, made


def _project_of(objects: Sequence[ObjectRef]) -> ProjectId:
    (project_id,) = {where.project_id for where in objects}
    return project_id
