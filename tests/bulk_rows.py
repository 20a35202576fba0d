"""Projects of many scored rows, written by SQL: what plans and pages are tried on."""

from __future__ import annotations

import uuid
from typing import Any

import psycopg

FIRST_XACT = 1_000_192_665_895_043_072
"""Where the versions of new databases begin."""

TEXT = "words of a span that was logged, "

PROJECT = """
with org as (
  insert into organization (id, name) values (gen_random_uuid(), gen_random_uuid()::text)
  returning id),
made as (
  insert into project (id, org_id, name)
  select %(project)s, id, 'bulk' from org returning id),
use as (
  insert into scorer_use (origin_kind, origin_id, role, scorer_kind, scorer, scorer_version)
  values ('rule', %(rule)s, 'live', 'autoevals', 'Levenshtein', '1') returning use_no),
object as (
  insert into object (project_id, object_type, object_id)
  select id, 'project_logs', id from made returning object_no)
select object_no, use_no, (select id from org) from object, use
"""
# Row i is a root span of its own trace; its score span follows it at once. One row in a hundred
# was written by each request.
BODIES = """
insert into span (object_no, seq, has_base, is_root, id, span_id, root_span_id, input, output,
                  metadata, metrics, span_attributes)
select %(object)s, %(seq)s + 2 * i, true, true, 'row' || i, 'span' || i, 'trace' || i,
       json_build_object('text', repeat(%(text)s, %(times)s)), to_json('answer ' || i),
       jsonb_build_object('user', 'u' || i %% 97, 'tier', 'gold'),
       '{"start": 1, "end": 2}', '{"name": "answer", "type": "llm"}'
  from generate_series(0, %(rows)s - 1) i
"""
HEADS = """
insert into span_head (object_no, seq, xact, first_xact, content_xact, trigger_xact, created,
                       computed_scores, computed_by)
select %(object)s, %(seq)s + 2 * i, %(xact)s + i / 100 * 2 + 1, %(xact)s + i / 100 * 2,
       %(xact)s + i / 100 * 2, %(xact)s + i / 100 * 2,
       timestamptz '2026-06-01Z' + i * interval '1 second',
       jsonb_build_object('Levenshtein', i %% 1000 / 1000.0),
       jsonb_build_object('Levenshtein', jsonb_build_object(
         'use', %(use)s, 'version', %(xact)s + i / 100 * 2, 'generation', 0))
  from generate_series(0, %(rows)s - 1) i
"""
SCORE_BODIES = """
insert into span (object_no, seq, has_base, is_root, id, span_id, root_span_id, scored_seq,
                  scored_xact, scored_use, scored_version)
select %(object)s, %(seq)s + 2 * i + 1, true, false, 'score' || i, 'scorespan' || i,
       'trace' || i, %(seq)s + 2 * i, %(xact)s + i / 100 * 2, %(use)s, %(xact)s + i / 100 * 2
  from generate_series(0, %(rows)s - 1) i
"""
SCORE_HEADS = """
insert into span_head (object_no, seq, xact, first_xact, content_xact, created,
                       computed_scores)
select %(object)s, %(seq)s + 2 * i + 1, %(xact)s + i / 100 * 2 + 1,
       %(xact)s + i / 100 * 2 + 1, %(xact)s + i / 100 * 2 + 1,
       timestamptz '2026-06-01Z' + i * interval '1 second',
       jsonb_build_object('Levenshtein', i %% 1000 / 1000.0)
  from generate_series(0, %(rows)s - 1) i
"""
OUTCOMES = """
insert into outcome (subject_seq, subject_version, use_no, object_no, state, queue, role,
                     started_at, finished_at, run_ms, attempts, arguments, scores)
select %(seq)s + 2 * i, %(xact)s + i / 100 * 2, %(use)s, %(object)s, 'completed', 'match',
       'live', now(), now(), 1, 1, 'output',
       jsonb_build_array(jsonb_build_object(
         'name', 'Levenshtein', 'score', i %% 1000 / 1000.0, 'metadata', null))
  from generate_series(0, %(rows)s - 1) i
"""
MATCH_RECORDS = """
insert into match_record (xact, created, object_no, rules_revision, attempts, row_seqs, reasons)
select %(xact)s + request * 2, now(), %(object)s, 0, 1,
       array(select %(seq)s + 2 * i from generate_series(request * 100, request * 100 + 99) i),
       '\\x01'
  from generate_series(0, (%(rows)s - 1) / 100) request
"""
SCORES = """
insert into span_score (object_no, name_hash, value, seq)
select %(object)s, score_name_hash('Levenshtein'), i / 2 %% 1000 / 1000.0, %(seq)s + i
  from generate_series(0, 2 * %(rows)s - 1) i
"""
STATEMENTS = (BODIES, HEADS, SCORE_BODIES, SCORE_HEADS, SCORES, OUTCOMES, MATCH_RECORDS)


OTHERS = """
with made as (
  insert into scorer_use (origin_kind, origin_id, role, scorer_kind, scorer, scorer_version)
  select 'rule', gen_random_uuid(), 'live', 'autoevals', 'other', i::text
    from generate_series(1, %(number)s) i)
insert into object (project_id, object_type, object_id)
select gen_random_uuid(), 'dataset', gen_random_uuid()
  from generate_series(1, %(number)s)
"""


def add_others(connection: psycopg.Connection[Any], number: int) -> None:
    """So many objects without rows, and uses of scorers without outcomes."""
    connection.execute(OTHERS, {"number": number})


def add_project(
    connection: psycopg.Connection[Any], rows: int, *, text_times: int = 3
) -> tuple[uuid.UUID, uuid.UUID, int]:
    """A new project with `rows` logged rows and a score span of each; its id, that of its
    organisation, and the number of its logs.

    Each text of a row is `text_times` times 33 characters. Rows and versions come after those
    that are there, and the sequences go on after them.
    """
    project = uuid.uuid4()
    found = connection.execute(
        PROJECT, {"project": project, "rule": uuid.uuid4()}
    ).fetchone()
    assert found is not None
    object_no, use_no, org = found
    place = connection.execute(
        "select nextval('span_seq'), nextval('xact_seq')"
    ).fetchone()
    assert place is not None
    given = {
        "object": object_no, "use": use_no, "seq": place[0], "xact": place[1] + 1,
        "rows": rows, "text": TEXT, "times": text_times,
    }
    for statement in STATEMENTS if rows else ():
        connection.execute(statement.encode(), given)
    connection.execute(
        "select setval('span_seq', %(seq)s + 2 * %(rows)s + 1),"
        " setval('xact_seq', %(xact)s + %(rows)s / 100 * 2 + 3)", given,
    )
    return project, org, object_no
