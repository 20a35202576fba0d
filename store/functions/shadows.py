"""Reads outcomes of a shadow together with those of the version in force."""

from __future__ import annotations

from typing import Any

from flows.functions.shadows import Pair
from scorers.functions.function import Function
from spans.ids import ObjectId, ProjectId, Xact
from spans.json import JsonObject
from spans.outcome import Errored, Failure, Verdict, verdict_of
from spans.row import ObjectRef, ObjectType, RowKey
from spans.scoring import OutcomeState, Score, ScoringResult, Usage
from store.postgres.database import Database

ENDED = [OutcomeState.COMPLETED, OutcomeState.SKIPPED, OutcomeState.ERRORED]

# A score's metadata is left out, because it may be long.
VERDICT = """
    jsonb_build_object(
      'scores', (select jsonb_agg(one - 'metadata') from jsonb_array_elements({0}.scores) one),
      'error_class', {0}.error_class, 'error_message', {0}.error_message,
      'started_at', extract(epoch from {0}.started_at), 'run_ms', {0}.run_ms,
      'calls', {0}.calls, 'prompt_tokens', {0}.prompt_tokens,
      'completion_tokens', {0}.completion_tokens, 'cached_tokens', {0}.cached_tokens,
      'cost', {0}.cost, 'model', {0}.model,
      'is_cached', {0}.is_cached)
"""
# The latest outcomes of each use of the shadow are found by an index, and the counterpart of
# each is then looked up. There is at most one.
PAIRS = f"""
    with latest as materialized (
      select one.*, uses.origin_id, object.project_id, object.object_type, object.object_id
        from scorer_use uses
       cross join lateral (
         select outcome.* from outcome join object on object.object_no = outcome.object_no
          where use_no = uses.use_no and role = 'shadow' and finished_at is not null
            and state = any(%(ended)s)
            and (%(project)s::uuid is null or object.project_id = %(project)s)
          order by finished_at desc limit %(last)s) one
        join object on object.object_no = one.object_no
       where uses.scorer = %(function)s and uses.scorer_version = %(version)s
         and uses.role = 'shadow'
       order by one.finished_at desc limit %(last)s)
    select shadow.project_id, shadow.object_type, shadow.object_id, span.id,
           shadow.subject_version, {VERDICT.format("live")}, {VERDICT.format("shadow")}
      from latest shadow
      join span on span.seq = shadow.subject_seq
      join scorer_use uses on uses.origin_id = shadow.origin_id
       and uses.scorer = %(function)s and uses.scorer_version = %(in_force)s
       and uses.role = 'live'
      join outcome live on live.subject_seq = shadow.subject_seq
       and live.subject_version = shadow.subject_version and live.use_no = uses.use_no
       and live.state = any(%(ended)s)
     order by shadow.finished_at desc
"""


class Shadows:
    """Reads what `flows.functions.shadows` compares; `pairs` is its PairsOf."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def pairs(
        self, function: Function, version: Xact, project_id: ProjectId | None, last: int
    ) -> list[Pair]:
        with self._database.cursor() as cursor:
            cursor.execute(
                PAIRS,
                {
                    "function": str(function.id), "in_force": str(function.in_force),
                    "version": str(version), "ended": ENDED, "project": project_id,
                    "last": last,
                },
            )
            return [
                Pair(
                    row=RowKey(
                        ObjectRef(ProjectId(project), ObjectType(kind), ObjectId(where)), row_id
                    ),
                    content=Xact(content), in_force=_verdict(live), shadow=_verdict(shadow),
                )
                for project, kind, where, row_id, content, live, shadow in cursor
            ]


def _verdict(kept: dict[str, Any]) -> Verdict:
    started_at, run_ms = kept["started_at"], kept["run_ms"]
    if kept["error_class"] is not None:
        failure = Failure(error_class=kept["error_class"], message=kept["error_message"])
        return Errored(failure=failure, started_at=started_at, run_ms=run_ms)
    result = ScoringResult(
        scores=tuple(map(_score, kept["scores"])), arguments={}, usage=_usage(kept)
    )
    return verdict_of(result, started_at=started_at, run_ms=run_ms)


def _score(kept: JsonObject) -> Score:
    value = kept["score"]
    return Score(
        name=str(kept["name"]), value=value if isinstance(value, int | float) else None
    )


def _usage(kept: dict[str, Any]) -> Usage:
    return Usage(
        calls=kept["calls"] or 0, prompt_tokens=kept["prompt_tokens"] or 0,
        completion_tokens=kept["completion_tokens"] or 0,
        cached_tokens=kept["cached_tokens"] or 0, cost=kept["cost"], model=kept["model"],
        is_cached=kept["is_cached"],
    )
