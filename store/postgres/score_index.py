"""The entries by which rows are found in the order of one score.

The table `span_score` has one for each number among a row's logged scores, and one for each
among its computed scores. A logged score hides a computed one of the same name, so a reader
compares the row with the entry; if they are equal too, the row has two entries alike.

The order of its index begins with the block of the row's place. Scores come in no order:
without blocks each would touch a page of its own, somewhere in an index of all rows that were
ever scored. With them the writers of one time share some pages. A reader merges the blocks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache

from spans.ids import RowSeq
from spans.json import Json
from store.postgres.database import Cursor

BLOCK = "(span_score.seq >> 18)"
"""The block of an entry, as the index has it: 262 144 places, about 12 MB of the index."""

COPY_SCORES = "copy span_score (object_no, name_hash, value, seq) from stdin"

NUMBERS_OF = """
    select asked.object_no, asked.seq, one.name, one.value::double precision as value
      from unnest(%s::integer[], %s::bigint[]) as asked(object_no, seq)
     cross join lateral (
       select computed_scores from span_head
        where span_head.object_no = asked.object_no and span_head.seq = asked.seq
       offset 0) head
     cross join lateral (
       select logged_scores from span where span.seq = asked.seq offset 0) body
     cross join lateral (
       select key as name, value
         from jsonb_each(case when jsonb_typeof(body.logged_scores) = 'object'
                              then body.logged_scores end)
       union all
       select key, value from jsonb_each(head.computed_scores)) one
     where jsonb_typeof(one.value) = 'number'
"""
DELETE_ENTRIES = f"""
    delete from span_score using ({NUMBERS_OF}) gone
     where span_score.object_no = gone.object_no
       and span_score.name_hash = score_name_hash(gone.name)
       and {BLOCK} = gone.seq >> 18
       and span_score.value = gone.value and span_score.seq = gone.seq
"""
ADD_ENTRIES = f"""
    insert into span_score (object_no, name_hash, value, seq)
    select object_no, score_name_hash(name), value, seq from ({NUMBERS_OF}) fresh
"""


@lru_cache(maxsize=1024)
def name_hash(name: str) -> int:
    """What stands for a score's name in an entry. The function `score_name_hash` of the
    database gives the same."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], signed=True)


def entry_lines(scores: Mapping[str, Json], *, object_no: int, seq: RowSeq) -> list[bytes]:
    """The COPY lines of the entries of a row without other entries for these scores."""
    return [
        b"%d\t%d\t%a\t%d\n" % (object_no, name_hash(name), float(value), seq)
        for name, value in scores.items() if type(value) is float or type(value) is int
    ]


@contextmanager
def changing_scores(
    cursor: Cursor, rows: Sequence[tuple[int, RowSeq]]
) -> Iterator[None]:
    """Keeps the entries of these rows in step with what is made of their scores within it.

    A row is named by the number of its object and by its place. The caller holds its lock.
    """
    if not rows:
        yield
        return
    keys = [object_no for object_no, _ in rows], [seq for _, seq in rows]
    cursor.execute(DELETE_ENTRIES, keys)
    yield
    cursor.execute(ADD_ENTRIES, keys)


def delete_entries(cursor: Cursor, object_no: int, seqs: Sequence[RowSeq]) -> None:
    """Deletes the entries of rows that are about to be deleted."""
    cursor.execute(DELETE_ENTRIES, ([object_no] * len(seqs), list(seqs)))
