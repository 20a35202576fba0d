"""Claims outbox entries for matching, and writes match records with their outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from math import ceil
from operator import itemgetter
from threading import Lock

from cachetools import LRUCache
from psycopg.errors import UniqueViolation

from flows.scoring.match import Batch, MatchDecision
from rules.named_functions import NamedFunctions
from rules.planning import plan
from rules.rule_set import RuleSet, function_from_json, rule_from_json
from spans.clock import Clock
from spans.errors import StaleFence
from spans.ids import ObjectId, ProjectId, Xact
from spans.row import ObjectRef, ObjectType, RowKey
from spans.scoring import REASON_BYTES
from spans.work import Deferred, Execution, OutboxEntry, Subject
from store.postgres.counters import Counts
from store.postgres.database import Cursor, Database
from store.postgres.leases import CLAIMED, OUTBOX, RELEASED
from store.postgres.row_views import read_subjects
from store.postgres.rule_revisions import lock_revision
from store.scoring.record import Locked, lock_rows, record
from store.scoring.supersede import SUPERSEDED

ENTRIES_MAX = 200
ENTRIES_MIN = 8
"""The most and the fewest outbox entries that one claim locks as candidates."""

RULE_SETS_KEPT = 256
"""Compiled rule sets that a process keeps. Beyond that it drops those not used for longest."""

# An entry whose worker died (`suspect`) is claimed before all others, and alone. Otherwise
# entries are taken from the oldest on until they have `rows` rows; the commit unlocks the
# candidates beyond that. The entries are matched with the newest revision of the rules.
CLAIM = f"""
    with suspect as materialized (
      select seq, cardinality(row_ids) as size from outbox
       where {OUTBOX.waiting} and deaths > 0
         and {OUTBOX.free}
         and exists (select from project where id = project_id and deleted_at is null)
       order by seq limit 1 for update skip locked),
    fresh as materialized (
      select seq, cardinality(row_ids) as size from outbox
       where {OUTBOX.waiting} and deaths = 0
         and {OUTBOX.free}
         and exists (select from project where id = project_id and deleted_at is null)
         and not exists (select from suspect)
       order by seq limit %(entries)s for update skip locked),
    candidate as (select * from suspect union all select * from fresh),
    taken as (
      select seq from (select seq, sum(size) over (order by seq) - size as before
                         from candidate) sized
       where before < %(rows)s)
    update outbox set {CLAIMED}
      from taken, project
     where outbox.seq = taken.seq and project.id = outbox.project_id
    returning outbox.project_id, object_type, object_id, project.rules_revision, outbox.seq,
              fence, deaths, xact, row_ids, rescored, outbox.created
"""


class MatchRecords:
    """Implements flows.scoring.match.MatchStore."""

    def __init__(self, database: Database, clock: Clock, *, lease_s: float) -> None:
        self._database = database
        self._clock = clock
        self._lease_s = lease_s
        self._entries = ENTRIES_MIN
        self._rule_sets: LRUCache[tuple[ProjectId, int], RuleSet] = LRUCache(RULE_SETS_KEPT)
        self._lock = Lock()   # cachetools' caches are not thread-safe

    def claim_entries(self, rows_max: int) -> list[Batch]:
        """Claim outbox entries of about `rows_max` rows. The attempts are then committed."""
        with self._database.cursor() as cursor:
            cursor.execute(
                CLAIM,
                {
                    "entries": self._entries, "rows": rows_max,
                    "owner": self._database.owner, "lease": self._lease_s,
                },
            )
            rows = sorted(cursor.fetchall(), key=itemgetter(slice(0, 5)))
        if size := sum(len(row[8]) for row in rows):
            # Lock next time about as many candidates as are taken, judging by the rows per
            # entry this time. The other match processes skip locked candidates, and would not
            # see that there is work for them.
            wanted = ceil(rows_max * len(rows) / size)
            self._entries = min(ENTRIES_MAX, max(ENTRIES_MIN, wanted))
        return [
            Batch(
                where=ObjectRef(ProjectId(project), ObjectType(kind), ObjectId(object_id)),
                revision=revision,
                entries=tuple(
                    OutboxEntry(
                        seq=seq, fence=fence, deaths=deaths, xact=Xact(xact),
                        row_ids=tuple(row_ids), rescored=rescored, created=created,
                    )
                    for *_, seq, fence, deaths, xact, row_ids, rescored, created in group
                ),
            )
            for (project, kind, object_id, revision), group in groupby(
                rows, key=itemgetter(slice(0, 4))
            )
        ]

    def rule_set(self, project_id: ProjectId, revision: int) -> RuleSet:
        """The project's rule set at this revision. A revision never changes, so a process
        compiles it only once."""
        key = (project_id, revision)
        with self._lock:
            known = self._rule_sets.get(key)
        if known is not None:
            return known
        with self._database.cursor() as cursor:
            cursor.execute(
                """select rules, functions from rule_set
                    where project_id = %s and revision = %s""",
                key,
            )
            rules, functions = cursor.fetchone() or ((), ())
        rule_set = RuleSet(
            revision=revision,
            rules=plan(map(rule_from_json, rules), clock=self._clock),
            functions=NamedFunctions([function_from_json(item) for item in functions]),
        )
        with self._lock:
            self._rule_sets[key] = rule_set
        return rule_set

    def subjects(
        self, where: ObjectRef, row_ids: Sequence[str], columns: frozenset[str]
    ) -> Mapping[str, Subject]:
        with self._database.cursor() as cursor:
            subjects = read_subjects(cursor, where, row_ids, columns)
            return _with_views_at_end(cursor, where, subjects)

    def record_match(self, matched: MatchDecision) -> None:
        """Write the decisions on a batch and close its entries, in one transaction.

        Safe to repeat: closed entries no longer have the claim's fence, so a second call
        raises StaleFence. Raises Contended if the rules changed meanwhile.
        """
        try:
            self._record(matched, is_new=not matched.rescored)
        except UniqueViolation:
            self._record(matched, is_new=False)   # some rows were scored by hand already
        except StaleFence:
            counts = Counts()
            counts.add("stale_fences", {}, 1)
            with self._database.cursor() as cursor:
                counts.write(cursor)
            raise

    def _record(self, matched: MatchDecision, *, is_new: bool) -> None:
        now = self._clock()
        counts = Counts()
        with self._database.cursor() as cursor:
            lock_revision(cursor, matched.batch.where.project_id, matched.batch.revision)
            locked = lock_rows(cursor, _keys(matched))
            _close_entries(cursor, matched)
            if matched.rescored:
                _withdraw(cursor, locked, matched)
            record(
                cursor, locked, matched.executions, matched.deferred, now=now, counts=counts,
                is_new=is_new,
            )
            _count(counts, matched)
            counts.write(cursor)


def _with_views_at_end(
    cursor: Cursor, where: ObjectRef, subjects: dict[str, Subject]
) -> dict[str, Subject]:
    """The subjects. Those that changed between their end and their matching get `at_end`, the
    columns as they were when the span ended."""
    cursor.execute(
        """select row_id, trigger_xact, view from row_at_end
            where project_id = %s and object_id = %s and row_id = any(%s)""",
        (where.project_id, where.object_id, list(subjects)),
    )
    for row_id, trigger_xact, view in cursor.fetchall():
        subject = subjects[row_id]
        if subject.trigger_xact == trigger_xact:
            subjects[row_id] = replace(subject, at_end={**subject.view, **view})
    return subjects


def _keys(matched: MatchDecision) -> list[RowKey]:
    return [
        *(execution.assignment.subject.key for execution in matched.executions),
        *(later.assignment.subject.key for later in matched.deferred),
        *(subject.key for subject in matched.rescored),
    ]


def _close_entries(cursor: Cursor, matched: MatchDecision) -> None:
    entries = matched.batch.entries
    cursor.execute(
        f"""update outbox set matched_at = now(), rules_revision = %s,
                              reasons = done.reasons, {RELEASED}
             from unnest(%s::bigint[], %s::bigint[], %s::bytea[]) as done(seq, fence, reasons)
            where {OUTBOX.held("done")}""",
        (
            matched.batch.revision,
            [entry.seq for entry in entries],
            [entry.fence for entry in entries],
            list(matched.reasons),
        ),
    )
    if cursor.rowcount != len(entries):
        raise StaleFence("the entries were taken over by another worker")
    cursor.execute(
        "delete from row_at_end where project_id = %s and trigger_xact = any(%s)",
        (matched.batch.where.project_id, [entry.xact for entry in entries]),
    )


def _withdraw(cursor: Cursor, locked: Locked, matched: MatchDecision) -> None:
    """Undo earlier scoring of rows whose content changed.

    Pending outcomes of the old content are superseded. Scores and score spans of rules that no
    longer select the row are removed; the outcomes themselves stay as history.
    """
    work: tuple[Execution | Deferred, ...] = (*matched.executions, *matched.deferred)
    asked = [one.key for each in work for one in each.assignment.asked]
    selected = {(key.subject_id, str(key.origin.id), key.scorer.name) for key in asked}
    where = matched.batch.where
    # A row that was written again since is decided by the entry of that later write, which may
    # be matched already: this entry must not remove the scores that it gave.
    latest = [
        subject for subject in matched.rescored
        if (row := locked.get(subject.key)) and row.trigger_xact == subject.trigger_xact
    ]
    ids = [subject.key.id for subject in latest]
    versions = [subject.content_xact for subject in latest]
    cursor.execute(
        f"""update outcome set {SUPERSEDED}
             from unnest(%s::text[], %s::bigint[]) as row(id, version)
            where project_id = %s and object_id = %s and subject_id = row.id
              and subject_version < row.version and state = 'pending'
              and origin_kind = 'rule'""",
        (ids, versions, where.project_id, where.object_id),
    )
    for subject in latest:
        row = locked[subject.key]
        for who in list(row.by.values()):
            slot = (str(who["rule"]), str(who["scorer"]))
            if (subject.key.id, *slot) not in selected:
                row.clear(slot)
    cursor.execute(
        """select distinct subject_id, origin_id::text, scorer, score_span_id::text
             from outcome
            where project_id = %s and object_id = %s and subject_id = any(%s)
              and origin_kind = 'rule'""",
        (where.project_id, where.object_id, ids),
    )
    gone = [span_id for *slot, span_id in cursor if tuple(slot) not in selected]
    cursor.execute(
        """delete from span where project_id = %s and object_type = %s and object_id = %s
              and id = any(%s)""",
        (*where, gone),
    )


def _count(counts: Counts, matched: MatchDecision) -> None:
    counts.add("matched_rows", {}, sum(len(entry.row_ids) for entry in matched.batch.entries))
    codes = b"".join(matched.reasons)
    for reason, code in REASON_BYTES.items():
        counts.add("match_decisions", {"reason": reason}, codes.count(code))
