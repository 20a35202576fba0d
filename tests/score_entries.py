"""Which entries of scores are missing, or are of no score any more."""

from __future__ import annotations

WRONG_ENTRIES = """
    with should as (
      select object_no, seq, score_name_hash(one.name) as name_hash,
             one.score::double precision as value
        from span_head join span using (object_no, seq)
       cross join lateral (
         select * from jsonb_each(computed_scores) union all
         select * from jsonb_each(nullif(logged_scores, 'null'))) one(name, score)
       where jsonb_typeof(one.score) = 'number'),
    present as (select object_no, seq, name_hash, value from span_score)
    select concat_ws(' ', what, seq, name_hash, value) as entry
      from (select 'missing:' as what, *
              from (table should except all table present) missing
             union all
            select 'needless:', * from (table present except all table should) needless) wrong
      left join object using (object_no)
"""
"""Each with what is wrong with it, the place of its row, the hash of the score's name, and its
value."""
