"""Takes back what a re-score job did to its rows, step by step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from rules.rescore.layers import JobName, RowLayers, ScoreLayer, Undone, names_of, without_job
from spans.ids import RowSeq
from spans.json import Json
from spans.scoring import OutcomeState, Role
from store.postgres.database import Cursor, Database
from store.postgres.numbers import Numbers
from store.postgres.row_deletion import delete_rows
from store.postgres.score_index import changing_scores
from store.postgres.versions import draw_versions
from store.scoring.locked_rows import Locked, LockedRow, lock_in_order
from store.scoring.score_spans import WRITE_COMPUTED

LOCK_JOB = """
    select rollback_step, next_step + (next_row > 0)::integer,
           rollback_at is not null and rolled_back_at is null
      from rescore_job where job_no = %s for no key update
"""
STEP = "select object_no, seqs, versions from rescore_step where job_no = %s and step_no = %s"
END_STEP = """
    update rescore_job set rollback_step = rollback_step + 1,
           restored = restored + %s, left_alone = left_alone + %s
     where job_no = %s
"""
END = "update rescore_job set rolled_back_at = now() where job_no = %s"
REPLACED = """
    select subject_seq, job_no, name, score, by from unnest(%s::bigint[]) as asked(seq)
     cross join lateral (
       select subject_seq, job_no, name, score, by from replaced_score
        where replaced_score.subject_seq = asked.seq and not is_undone offset 0) replaced
"""
# A job that is rolled back as well takes nothing any more.
VERDICTS = f"""
    select asked.seq, verdict.job_no, verdict.use_no
      from unnest(%s::bigint[], %s::bigint[]) as asked(seq, version)
     cross join lateral (
       select job_no, use_no from outcome
        where outcome.subject_seq = asked.seq and outcome.subject_version = asked.version
          and job_no is not null and role = '{Role.LIVE}'
          and state in ('{OutcomeState.COMPLETED}', '{OutcomeState.SKIPPED}') offset 0) verdict
     cross join lateral (
       select rollback_at from rescore_job
        where rescore_job.job_no = verdict.job_no offset 0) job
     where verdict.job_no = %s or job.rollback_at is null
"""
SCORE_SPANS = """
    select score_span.seq, scored_use from unnest(%s::bigint[]) as scored(seq)
     cross join lateral (
       select seq, scored_use from span where span.scored_seq = scored.seq offset 0) score_span
"""
MARK_UNDONE = """
    update replaced_score set is_undone = true
      from unnest(%s::bigint[]) as asked(seq)
     cross join lateral (
       select subject_seq, job_no, name from replaced_score
        where replaced_score.subject_seq = asked.seq and replaced_score.job_no = %s
       offset 0) found
     where replaced_score.subject_seq = found.subject_seq
       and replaced_score.job_no = found.job_no and replaced_score.name = found.name
"""
FORGET_REPLACED = """
    delete from replaced_score
     using unnest(%s::bigint[], %s::integer[], %s::text[]) as gone(seq, job_no, name)
     where replaced_score.subject_seq = gone.seq and replaced_score.job_no = gone.job_no
       and replaced_score.name = gone.name
"""
REPLACE = """
    insert into replaced_score (subject_seq, job_no, name, score, by)
    select seq, job_no, name, score::jsonb, by::jsonb
      from unnest(%s::bigint[], %s::integer[], %s::text[], %s::text[], %s::text[])
           as moved(seq, job_no, name, score, by)
    on conflict (subject_seq, job_no, name) do update
       set score = excluded.score, by = excluded.by, is_undone = false
"""


class RolledBack(NamedTuple):
    """What one step of a rollback did.

    `restored` rows have their scores from before the job, as far as nobody has set them since;
    `left_alone` have other content or other scores by now.
    """

    restored: int = 0
    left_alone: int = 0
    is_last: bool = False


class Rollbacks:
    """Rolls jobs back."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def next_step(self, job_no: int) -> RolledBack:
        """Take back the next step of a job whose rollback has begun, in one transaction.

        The step is counted in the job's row in the same transaction, under the row's lock. So
        it is safe to repeat, and for several workers to do at once. After the last step there
        is nothing to do; the job is marked as rolled back then.
        """
        numbers = self._database.numbers
        with self._database.cursor() as cursor:
            cursor.execute(LOCK_JOB, (job_no,))
            step_no, steps, is_wanted = cursor.fetchone() or (0, 0, False)
            if not is_wanted:
                return RolledBack(is_last=True)
            cursor.execute(STEP, (job_no, step_no))
            step = cursor.fetchone()
            # The steps behind the last that has begun have changed nothing.
            if step is None or step_no >= steps:
                cursor.execute(END, (job_no,))
                return RolledBack(is_last=True)
            done = _roll_back(cursor, numbers, job_no, _Step(*step))
            cursor.execute(END_STEP, (done.restored, done.left_alone, job_no))
        return done


class _Step(NamedTuple):
    """The rows of a step, and the content of each that was selected."""

    object_no: int
    seqs: Sequence[RowSeq]
    versions: Sequence[int]


def _roll_back(cursor: Cursor, numbers: Numbers, job_no: int, step: _Step) -> RolledBack:
    object_no = step.object_no
    selected = dict(zip(step.seqs, step.versions, strict=True))
    locked = lock_in_order(cursor, sorted((object_no, seq) for seq in selected))
    rows = {seq: row for seq, row in locked.items() if row.content_xact == selected[seq]}
    cursor.execute(VERDICTS, (list(selected), list(selected.values()), job_no))
    verdicts: dict[RowSeq, list[tuple[int, int]]] = defaultdict(list)
    for seq, of_job, use_no in cursor.fetchall():
        verdicts[seq].append((of_job, use_no))
    of_rows = _layers(cursor, numbers, rows, verdicts)
    _delete_score_spans(cursor, numbers, object_no, rows, job_no)
    undone = {seq: without_job(layers, job_no) for seq, layers in of_rows.items()}
    restored = [seq for seq, one in undone.items() if one.shown != of_rows[seq].shown]
    _write_scores(cursor, object_no, {seq: undone[seq] for seq in restored})
    cursor.execute(MARK_UNDONE, (list(selected), job_no))
    _move_replaced(cursor, undone)
    # A verdict without a score that replaced none has changed nothing.
    judged = {
        seq for seq, given in verdicts.items()
        if seq in locked and any(of_job == job_no for of_job, _ in given)
        and (seq not in rows or names_of(of_rows[seq], job_no))
    }
    return RolledBack(restored=len(restored), left_alone=len(judged - set(restored)))


def _layers(
    cursor: Cursor, numbers: Numbers, rows: Locked,
    verdicts: Mapping[RowSeq, Sequence[tuple[int, int]]],
) -> dict[RowSeq, RowLayers]:
    """The layers of the rows' present content."""
    cursor.execute(REPLACED, (list(rows),))
    replaced: dict[RowSeq, dict[JobName, tuple[Json, dict[str, int]]]] = defaultdict(dict)
    for seq, job_no, name, score, by in cursor.fetchall():
        if by["version"] == rows[seq].content_xact:
            replaced[seq][job_no, name] = score, by
    numbers.load_uses({
        *(who["use"] for row in rows.values() for who in row.by.values()),
        *(by["use"] for of_row in replaced.values() for _, by in of_row.values()),
        *(use_no for given in verdicts.values() for _, use_no in given),
    })
    return {
        seq: RowLayers(
            shown={
                name: _layer(numbers, row.scores[name], who) for name, who in row.by.items()
            },
            replaced={
                key: _layer(numbers, score, by) for key, (score, by) in replaced[seq].items()
            },
            verdicts=frozenset(
                (of_job, _scorer(numbers, use_no)) for of_job, use_no in verdicts.get(seq, ())
            ),
        )
        for seq, row in rows.items()
    }


def _layer(numbers: Numbers, value: Json, who: Mapping[str, int]) -> ScoreLayer:
    return ScoreLayer(
        value=value, scorer=_scorer(numbers, who["use"]), use_no=who["use"],
        version=who["version"], generation=who["generation"],
    )


def _scorer(numbers: Numbers, use_no: int) -> tuple[str, str]:
    scorer = numbers.use_of(use_no).scorer
    return scorer.kind, scorer.name


def _delete_score_spans(
    cursor: Cursor, numbers: Numbers, object_no: int, rows: Mapping[RowSeq, LockedRow],
    job_no: int,
) -> None:
    """Delete the job's score spans beneath these rows, which are locked."""
    cursor.execute(SCORE_SPANS, (list(rows),))
    found = [(seq, use_no) for seq, use_no in cursor.fetchall() if use_no is not None]
    numbers.load_uses({use_no for _, use_no in found})
    delete_rows(cursor, object_no, [
        seq for seq, use_no in found if numbers.use_of(use_no).origin.generation == job_no
    ])


def _write_scores(cursor: Cursor, object_no: int, rows: Mapping[RowSeq, Undone]) -> None:
    """Write the scores of the rows, which are locked, as one new version."""
    if not rows:
        return
    (xact,), _ = draw_versions(cursor, 1)
    seqs, object_nos = list(rows), [object_no] * len(rows)
    with changing_scores(cursor, list(zip(object_nos, seqs, strict=True))):
        cursor.execute(WRITE_COMPUTED, (
            xact, object_nos, seqs,
            [_text({name: one.value for name, one in row.shown.items()})
             for row in rows.values()],
            [_text({name: _by(one) for name, one in row.shown.items()})
             for row in rows.values()],
        ))


def _move_replaced(cursor: Cursor, rows: Mapping[RowSeq, Undone]) -> None:
    """Have other jobs replace what they have replaced without the one that is undone."""
    moved = [
        (seq, job_no, name, layer)
        for seq, row in rows.items() for (job_no, name), layer in row.moved.items()
    ]
    gone = [key for *key, layer in moved if layer is None]
    kept = [
        (*key, orjson.dumps(layer.value).decode(), _text(_by(layer)))
        for *key, layer in moved if layer is not None
    ]
    if gone:
        cursor.execute(FORGET_REPLACED, _columns(gone))
    if kept:
        cursor.execute(REPLACE, _columns(kept))


def _by(layer: ScoreLayer) -> dict[str, int]:
    return {
        "use": layer.use_no, "version": layer.version, "generation": layer.generation
    }


def _text(values: Mapping[str, object]) -> str:
    return orjson.dumps(values).decode() if values else ""


def _columns(rows: Sequence[Sequence[Any]]) -> tuple[list[Any], ...]:
    return tuple(map(list, zip(*rows, strict=True)))
