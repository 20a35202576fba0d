"""What follows when PostgreSQL's clock is set back: what automations and deliveries wait for
would otherwise come only once the clock has caught up."""

from __future__ import annotations

import logging
from datetime import timedelta

from store.automations.clock import time_now
from store.automations.states import set_due
from store.postgres.database import Cursor
from store.postgres.leases import SET_BACK

logger = logging.getLogger(__name__)

SET_BACK_MIN = timedelta(seconds=5)
"""By how much a clock has to be set back before anything is done about it: less delays nothing
by more than that."""

# The rows stay locked, so that of two processes one alone follows.
# now() keeps its value in a statement, so that the index is searched for it, not read whole.
AHEAD = """
    select last_at - now() from version_time
     where last_at > now() + %s order by last_at desc for update
"""
TIMES = """
    update version_time set first_at = least(first_at, %(now)s), last_at = %(now)s
     where last_at > %(now)s
"""
# One that somebody holds is being sent now.
ATTEMPTS = f"""
    update delivery
       set next_attempt_at = delivery.next_attempt_at - %(by)s,
           {SET_BACK}
      from (select id from delivery
             where state = 'pending' and greatest(next_attempt_at, lease_until) > %(now)s
             order by id for update skip locked) late
     where delivery.id = late.id
"""
LATE = """
    select automation_no from automation_state
     where due_at > %(now)s or reported_until > %(now)s
"""


def follow_clock(cursor: Cursor) -> None:
    """If the clock has been set back since versions were last marked, set back with it what
    waits for a time: due notifications, and the next attempts of deliveries."""
    cursor.execute(AHEAD, (SET_BACK_MIN,))
    if (row := cursor.fetchone()) is None:
        return
    by: timedelta = row[0]
    logger.warning("PostgreSQL's clock has been set back by %s: automations follow it", by)
    now = time_now(cursor)
    cursor.execute(TIMES, {"now": now})
    cursor.execute(ATTEMPTS, {"now": now, "by": by})
    cursor.execute(LATE, {"now": now})
    set_due(cursor, [number for (number,) in cursor.fetchall()], now)
