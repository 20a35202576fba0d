"""Claims outbox entries for matching, and writes match records with their outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from threading import Lock

from cachetools import LRUCache
from psycopg.errors import UniqueViolation

from flows.scoring.match import Batch, MatchDecision
from rules.named_functions import NamedFunctions
from rules.planning import plan
from rules.rule_set import RuleSet, function_from_json, rule_from_json
from spans.clock import Clock
from spans.errors import StaleFence
from spans.ids import ProjectId, RowSeq
from spans.outcome import OriginKind
from spans.row import ObjectRef
from spans.scoring import REASON_BYTES
from spans.work import Deferred, Execution, OutboxEntry, Subject
from store.postgres.counters import Counts
from store.postgres.database import Cursor, Database
from store.postgres.leases import OUTBOX, by_key
from store.postgres.numbers import Numbers
from store.postgres.row_deletion import delete_rows
from store.postgres.row_views import read_subjects
from store.postgres.rule_revisions import lock_revision
from store.scoring.entry_turns import EntryTurns
from store.scoring.locked_rows import Locked, lock_rows
from store.scoring.record import record
from store.scoring.supersede import SUPERSEDED

RULE_SETS_KEPT = 256
"""Compiled rule sets that a process keeps. Beyond that it drops those not used for longest."""

CLOSE = f"""
    with closed as (
      delete from outbox using {OUTBOX.claims("reasons bytea")} where {OUTBOX.held("held")}
      returning xact, outbox.created, object_no, attempts, row_seqs, reasons)
    insert into match_record
           (xact, created, object_no, rules_revision, attempts, row_seqs, reasons)
    select xact, created, object_no, %s, attempts, row_seqs, reasons from closed
"""
# Pending outcomes of the old content of rows that were written again since.
SUPERSEDE_OLD_CONTENT = f"""
    update outcome set {SUPERSEDED}
      from unnest(%s::bigint[], %s::bigint[]) as latest(seq, version)
     where outcome.subject_seq = latest.seq and outcome.subject_version < latest.version
       and {by_key("outcome.state = 'pending'")}
       and (select origin_kind from scorer_use
             where scorer_use.use_no = outcome.use_no) = '{OriginKind.RULE}'
"""
# Those whose content is gone, and those of rules, which decide anew.
OLD_SCORE_SPANS = f"""
    select latest.seq, scorer_use.origin_id, scorer_use.scorer, score_span.seq
      from unnest(%s::bigint[], %s::bigint[]) as latest(seq, version)
     cross join lateral (
       select scored_use, scored_version, seq from span
        where span.scored_seq = latest.seq offset 0) score_span
     cross join lateral (
       select origin_kind, origin_id, scorer from scorer_use
        where scorer_use.use_no = score_span.scored_use offset 0) scorer_use
     where scorer_use.origin_kind = '{OriginKind.RULE}'
        or score_span.scored_version <> latest.version
"""


class MatchRecords:
    """Implements flows.scoring.match.MatchStore."""

    def __init__(self, database: Database, clock: Clock, *, lease_s: float) -> None:
        self._database = database
        self._clock = clock
        self._lease_s = lease_s
        self._turns = EntryTurns()
        self._rule_sets: LRUCache[tuple[ProjectId, int], RuleSet] = LRUCache(RULE_SETS_KEPT)
        self._lock = Lock()   # cachetools' caches are not thread-safe

    def claim_entries(self, rows_max: int) -> list[Batch]:
        """Claim outbox entries of about `rows_max` rows. The attempts are then committed."""
        with self._database.cursor() as cursor:
            claimed = self._turns.claim(
                cursor, rows_max, owner=self._database.owner, lease_s=self._lease_s
            )
        return [
            Batch(
                where=self._database.numbers.object_of(object_no),
                revision=revision,
                entries=tuple(
                    OutboxEntry(
                        seq=one.seq, fence=one.fence, deaths=one.deaths, xact=one.xact,
                        row_seqs=tuple(one.row_seqs), rescored=one.rescored,
                        created=one.created,
                    )
                    for one in group
                ),
            )
            for (object_no, revision), group in groupby(
                claimed, key=attrgetter("object_no", "revision")
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
        self, where: ObjectRef, row_seqs: Sequence[RowSeq], columns: frozenset[str]
    ) -> Mapping[RowSeq, Subject]:
        object_no = self._database.numbers.object_no(where)
        with self._database.cursor() as cursor:
            return read_subjects(cursor, where, object_no, row_seqs, columns)

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
        numbers = self._database.numbers
        object_no = numbers.object_no(matched.batch.where)
        with self._database.cursor() as cursor:
            lock_revision(cursor, matched.batch.where.project_id, matched.batch.revision)
            locked = lock_rows(cursor, numbers, _subjects(matched))
            _close_entries(cursor, object_no, matched)
            if matched.rescored:
                _withdraw(cursor, numbers, locked, matched)
            record(
                cursor, numbers, locked, matched.executions, matched.deferred, now=now,
                counts=counts, is_new=is_new,
            )
            _count(counts, matched)
            counts.write(cursor)


def _subjects(matched: MatchDecision) -> list[Subject]:
    work: tuple[Execution | Deferred, ...] = (*matched.executions, *matched.deferred)
    return [*(one.assignment.subject for one in work), *matched.rescored]


def _close_entries(cursor: Cursor, object_no: int, matched: MatchDecision) -> None:
    """Move the entries to the match records, with what was decided on them."""
    entries = matched.batch.entries
    cursor.execute(
        CLOSE,
        (
            [entry.seq for entry in entries],
            [entry.fence for entry in entries],
            list(matched.reasons),
            matched.batch.revision,
        ),
    )
    if cursor.rowcount != len(entries):
        raise StaleFence("the entries were taken over by another worker")
    cursor.execute(
        "delete from row_at_end where object_no = %s and trigger_xact = any(%s)",
        (object_no, [entry.xact for entry in entries]),
    )


def _withdraw(
    cursor: Cursor, numbers: Numbers, locked: Locked, matched: MatchDecision
) -> None:
    """Undo earlier scoring of rows that are matched again.

    Pending outcomes of old content are superseded. Scores and score spans go that are of old
    content, or of rules that no longer select the row, unless a new outcome replaces them. The
    outcomes themselves stay as history.
    """
    work: tuple[Execution | Deferred, ...] = (*matched.executions, *matched.deferred)
    selected = {
        (one.assignment.subject.seq, asked.use.origin.id, asked.use.scorer.name)
        for one in work for asked in one.assignment.asked
    }
    # A row that was written again since is decided by the entry of that later write, which may
    # be matched already: this entry must not remove the scores that it gave.
    latest = [
        subject for subject in matched.rescored
        if (row := locked.get(subject.seq)) and row.trigger_xact == subject.trigger_xact
    ]
    seqs = [subject.seq for subject in latest]
    versions = [subject.content_xact for subject in latest]
    cursor.execute(SUPERSEDE_OLD_CONTENT, (seqs, versions))
    for seq in seqs:
        row = locked[seq]
        row.clear([
            who["use"] for who in row.by.values()
            for use in [numbers.use_of(who["use"])]
            if (seq, use.origin.id, use.scorer.name) not in selected
            and (use.origin.kind is OriginKind.RULE or who["version"] != row.content_xact)
        ])
    cursor.execute(OLD_SCORE_SPANS, (seqs, versions))
    delete_rows(
        cursor, numbers.object_no(matched.batch.where),
        [span_seq for *slot, span_seq in cursor if tuple(slot) not in selected],
    )


def _count(counts: Counts, matched: MatchDecision) -> None:
    counts.add("matched_rows", {}, sum(len(entry.row_seqs) for entry in matched.batch.entries))
    codes = b"".join(matched.reasons)
    for reason, code in REASON_BYTES.items():
        counts.add("match_decisions", {"reason": reason}, codes.count(code))
