"""Finds the outcomes that budgets hold back, and moves them back to their queues."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from rules.budgets.reserve import Balance, releasable
from spans.queues import HELD_BY_BUDGET
from store.budgets.purses import BUDGET, lock_uses, open_uses, placed_budget, write_uses
from store.postgres.database import Cursor, Database

# One look into an index for each queue in which outcomes wait.
QUEUES = f"""
    with recursive waiting as (
      (select queue from outcome where state = 'pending' and is_lead order by queue limit 1)
      union all
      select next.queue from waiting cross join lateral (
        select queue from outcome
         where state = 'pending' and is_lead and queue > waiting.queue
         order by queue limit 1) next)
    select queue from waiting where starts_with(queue, '{HELD_BY_BUDGET}')
"""
BY_NUMBER = f"""
    select budget.* from unnest(%s::integer[]) as wanted(no)
     cross join lateral (
       select {BUDGET} from budget where budget.budget_no = wanted.no for share) budget
"""
RELEASE = """
    with back as (
      select subject_seq, subject_version, use_no from outcome
       where queue = %(held)s and state = 'pending' and is_lead
       order by created limit %(most)s for update skip locked)
    update outcome set queue = %(to)s, next_attempt_at = now(), error_class = null,
                       error_message = null
      from back
     where outcome.subject_seq = back.subject_seq and outcome.use_no = back.use_no
       and outcome.subject_version = back.subject_version
"""
COUNT = """
    select queue.name, waiting.number
      from unnest(%s::text[]) as queue(name)
     cross join lateral (
       select count(*) as number from (
         select from outcome
          where outcome.queue = queue.name and state = 'pending' and is_lead
          limit %s) counted) waiting
"""
REASONS = """
    select queue.name, first.error_message
      from unnest(%s::text[]) as queue(name)
     cross join lateral (
       select error_message from outcome
        where outcome.queue = queue.name and state = 'pending' and is_lead
        order by created limit 1) first
"""
COUNTED_MAX = 10_000
"""The most outcomes that are counted in a held queue, so that it takes milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldQueue:
    """A queue in which outcomes wait for room in a budget, and where they go from there."""

    name: str
    budget_no: int
    is_live: bool
    to: str


class HeldOutcomes:
    """Implements flows.budgets.held.HeldStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def release_some(self, most: int) -> Collection[str]:
        with self._database.cursor() as cursor:
            queues = held_queues(cursor)
        released: set[str] = set()
        by_budget: defaultdict[int, list[HeldQueue]] = defaultdict(list)
        for queue in sorted(queues, key=lambda one: not one.is_live):
            by_budget[queue.budget_no].append(queue)
        for budget_no, own in by_budget.items():
            with self._database.cursor() as cursor:
                released |= _release(cursor, budget_no, own, most)
        return released


def held_queues(cursor: Cursor) -> list[HeldQueue]:
    """The queues in which outcomes wait for room in budgets."""
    cursor.execute(QUEUES)
    return [
        HeldQueue(name=name, budget_no=int(no), is_live=kind == "live", to=to)
        for (name,) in cursor.fetchall()
        for no, kind, to in [name.removeprefix(HELD_BY_BUDGET).split(":")]
    ]


def count_held(cursor: Cursor, queues: Sequence[HeldQueue]) -> Mapping[int, int]:
    """How many outcomes wait in the queues, by the budget's number; in each at most
    COUNTED_MAX."""
    if not queues:
        return {}
    cursor.execute(COUNT, ([one.name for one in queues], COUNTED_MAX))
    number: dict[str, int] = dict(cursor.fetchall())
    held: defaultdict[int, int] = defaultdict(int)
    for one in queues:
        held[one.budget_no] += number.get(one.name, 0)
    return held


def held_reasons(cursor: Cursor, queues: Sequence[HeldQueue]) -> Mapping[int, str]:
    """Why the oldest outcome of each budget is held back, by the budget's number."""
    if not queues:
        return {}
    cursor.execute(REASONS, ([one.name for one in queues],))
    reasons: dict[str, str] = dict(cursor.fetchall())
    return {one.budget_no: reasons[one.name] for one in queues if one.name in reasons}


def _release(
    cursor: Cursor, budget_no: int, queues: Sequence[HeldQueue], most: int
) -> set[str]:
    """Release outcomes of one budget; gives the queues to which they went."""
    room = most
    cursor.execute(BY_NUMBER, ([budget_no],))
    found = cursor.fetchone()
    if found is not None:
        place, budget = placed_budget(found)
        open_uses(cursor, [place])
        use = lock_uses(cursor, [place])[place]
        room = releasable(Balance(no=budget_no, budget=budget, use=use), most)
        if room and use.wanted is not None:
            write_uses(cursor, {place: replace(use, wanted=None)})
    released: set[str] = set()
    for queue in queues:
        if room <= 0:
            break
        cursor.execute(RELEASE, {"held": queue.name, "to": queue.to, "most": room})
        if cursor.rowcount:
            released.add(queue.to)
            room -= cursor.rowcount
    return released
