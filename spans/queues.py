"""The queues: what kinds of work there are, which process does each, and when it is rung for.

To add a queue, add its line to `QUEUES`, what runs its work to `workers/process.py`, and what
sends work there (for scorers: `scorers/functions/queue.py`). Celery's queues, routes and beat
schedule, the processes, the tasks and the metrics follow from the table. A test then names the
service that `compose.yaml` lacks.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

MATCH = "match"
"""Matches finished spans with rules, and runs cheap scorers meanwhile."""

HEAVY = "heavy"
"""Runs in-process scorers that are too slow to run while matching."""

JUDGE = "judge"
"""Runs scorers that ask an LLM."""

SANDBOX = "sandbox"
"""Runs users' own code."""

HELD = "held:"
"""Begins the names of queues that no worker serves: see `held_queue`."""

HELD_BY_JOB = f"{HELD}job:"
"""Begins the names of queues in which outcomes of paused re-score jobs wait."""

HELD_BY_BUDGET = f"{HELD}budget:"
"""Begins the names of queues in which outcomes wait for a budget: see `budget_queue`."""

AUTOMATIONS = "automations"
"""Evaluates automations over what has changed in the logs."""

WEBHOOKS = "webhooks"
"""Posts what automations send."""

RESCORE = "rescore"
"""Selects the rows of re-score jobs, and has them scored."""

UPKEEP = "upkeep"
"""Removes what is past its retention time."""

RING_S = 5.0
"""How often beat rings a queue of spans or outcomes, seconds: the longest that a lost ring
can delay work."""

AUTOMATIONS_RING_S = 1.0
"""How often beat rings for automations, seconds: nothing else does, so that a first match is
found this long after it was written. A ring that finds nothing takes 3 ms."""

RESCORE_RING_S = 1.0
"""How often beat rings for re-score jobs, seconds: a job that was made, resumed or cancelled
goes on this long after it at most, should the ring for it be lost. A ring that finds no job
takes 1 ms."""

UPKEEP_RING_S = 60.0
"""How often beat rings for upkeep, seconds: nobody waits for it."""


class Holds(Enum):
    """What kind of rows wait in a queue."""

    ENTRIES = "outbox entries"
    OUTCOMES = "pending outcomes"
    NOTHING = "nothing: a ring is all that there is to do"


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A kind of worker process; it may serve several queues.

    `processes` names the setting that says how many processes its pool has. Without it the
    worker has one thread for each queue, which feeds an event loop or sandboxes and waits for
    them.
    """

    name: str
    processes: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """One queue.

    `task` is the name of the Celery task that a ring runs. `time_limit` names the setting
    after which that task's process is killed, seconds; None: never.
    """

    name: str
    task: str
    worker: Worker
    holds: Holds
    ring_s: float = RING_S
    time_limit: str | None = None


_MATCH = Worker(name="match", processes="match_processes")
_HEAVY = Worker(name="heavy", processes="heavy_processes")
_JUDGE = Worker(name="judge")
_SANDBOX = Worker(name="sandbox")
_AUTOMATIONS = Worker(name="automations")

# What is slow has a worker of its own, so that it never delays what is live. Upkeep may wait
# for a heavy scorer, hence it needs none. A scorer that runs in the heavy worker cannot be
# interrupted: only its process can be killed.
QUEUES = (
    Queue(name=MATCH, task="tallyard.match", worker=_MATCH, holds=Holds.ENTRIES),
    Queue(name=HEAVY, task="tallyard.score_heavy", worker=_HEAVY, holds=Holds.OUTCOMES,
          time_limit="heavy_timeout_s"),
    Queue(name=JUDGE, task="tallyard.judge", worker=_JUDGE, holds=Holds.OUTCOMES),
    Queue(name=SANDBOX, task="tallyard.sandbox", worker=_SANDBOX, holds=Holds.OUTCOMES),
    Queue(name=AUTOMATIONS, task="tallyard.automations", worker=_AUTOMATIONS,
          holds=Holds.NOTHING, ring_s=AUTOMATIONS_RING_S),
    Queue(name=WEBHOOKS, task="tallyard.webhooks", worker=_AUTOMATIONS, holds=Holds.NOTHING),
    Queue(name=RESCORE, task="tallyard.rescore", worker=_AUTOMATIONS, holds=Holds.NOTHING,
          ring_s=RESCORE_RING_S),
    Queue(name=UPKEEP, task="tallyard.upkeep", worker=_HEAVY, holds=Holds.NOTHING,
          ring_s=UPKEEP_RING_S),
)


def queue_named(name: str, queues: tuple[Queue, ...] = QUEUES) -> Queue:
    """The queue of that name. Raises KeyError if the table has none."""
    for queue in queues:
        if queue.name == name:
            return queue
    raise KeyError(name)


def held_queue(endpoint: str) -> str:
    """The queue in which judged outcomes wait while the circuit of their endpoint is open.

    No worker serves it, so what waits there costs no claim. The circuit's store moves outcomes
    back to the queue of judges.
    """
    return HELD + endpoint


def held_by_job(job_no: int) -> str:
    """The queue in which the outcomes of a re-score job wait while it is paused."""
    return f"{HELD_BY_JOB}{job_no}"


def budget_queues(budget_no: int) -> str:
    """How the names of the queues begin in which outcomes wait for room in a budget.

    The whole names are those of `budget_queue`.
    """
    return f"{HELD_BY_BUDGET}{budget_no}:"


def budget_queue(budget_no: int, *, is_live: bool, queue: str) -> str:
    """The queue in which outcomes of `queue` wait for room in a budget: of live ones, or bulk.

    No worker serves it. Its name ends with where they go from there.
    """
    return f"{budget_queues(budget_no)}{'live' if is_live else 'bulk'}:{queue}"


def queues_of_outcomes(queues: tuple[Queue, ...] = QUEUES) -> tuple[str, ...]:
    """The names of the queues in which outcomes wait: who makes outcomes pending rings them."""
    return tuple(queue.name for queue in queues if queue.holds is Holds.OUTCOMES)


def workers(queues: tuple[Queue, ...] = QUEUES) -> dict[Worker, tuple[str, ...]]:
    """Each worker and the queues that it serves, in the order of the table."""
    served: dict[Worker, tuple[str, ...]] = {}
    for queue in queues:
        served[queue.worker] = (*served.get(queue.worker, ()), queue.name)
    return served


def worker_names(queues: tuple[Queue, ...] = QUEUES) -> tuple[str, ...]:
    """The names of the workers, which are those of their processes."""
    return tuple(worker.name for worker in workers(queues))
