"""Workers of judged outcomes in one process: each has connections and an event loop of its own.

    main(DATABASE_URL, JUDGE_URL, WORKERS)

It runs until it is killed. The test that starts it reads what became of the outcomes.
"""

from __future__ import annotations

import asyncio
import random
import threading

from judges import endpoint_at

from flows.budgets.held import release_held
from flows.budgets.purse import Purses
from flows.scoring.circuit import Gates
from flows.scoring.drain import Drain, Pace
from flows.scoring.judge_executor import JudgeExecutor
from flows.scoring.retry import RetryPolicy
from scorers.functions.source import KeptFunctions
from scorers.judge.client import Judge
from scorers.judge.endpoints import Endpoints
from scorers.judge.prices import Prices, PriceTable
from scorers.run.judge import JudgedScorers
from spans.clock import system_clock
from spans.queues import JUDGE
from store.budgets.held import HeldOutcomes
from store.budgets.purses import StoredPurses
from store.functions.functions import StoredFunctions
from store.logs.traces import Traces
from store.postgres.database import Database
from store.postgres.leases import Leases
from store.scoring.circuits import Circuits
from store.scoring.ledger import Ledger

MODEL = "gpt-4o"
PRICES = Prices(prompt=2.0, cached=1.0, completion=8.0)
ANSWER_TOKENS_MAX = 50
LEASE_S = 20.0
TIMEOUT_S = 1.0
IN_FLIGHT = 8
PAUSE_S = 0.2


def work(database_url: str, judge_url: str) -> None:
    """Works off the judge's queue for ever, as a process of its own would."""
    database = Database(database_url)
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    endpoint = endpoint_at(judge_url, timeout_s=TIMEOUT_S, in_flight=IN_FLIGHT)
    judge = Judge(
        Endpoints(endpoint, (), PriceTable(prices={MODEL: PRICES})), model=MODEL,
        embedding_model="none",
    )
    functions = StoredFunctions(database)
    scorers = JudgedScorers(
        judge=judge, functions=KeptFunctions(functions.version),
        spans_of=Traces(database).spans_of,
    )
    gates = Gates(
        Circuits(database, budget_s=3600.0, wait_max_s=1.0), system_clock, loop=loop,
        in_flight_max={endpoint.name: IN_FLIGHT},
    )
    purses = Purses(StoredPurses(database), answer_tokens_max=ANSWER_TOKENS_MAX)

    def meanwhile() -> int:
        gates.tend()
        return 0

    drain = Drain(
        store=Ledger(database, system_clock, lease_s=LEASE_S, time_limits_s={}), queue=JUDGE,
        executor=JudgeExecutor(scorers, gates, loop=loop, purse_of=purses.of_claim),
        policy=RetryPolicy(budget_s=3600.0, wait_max_s=1.0, spread=random.random),
        pace=Pace(gather=1000, gather_s=0.02, renew_s=LEASE_S / 4), meanwhile=meanwhile,
    )
    held, leases = HeldOutcomes(database), Leases(database, lease_s=LEASE_S)
    while True:
        leases.release_abandoned()
        release_held(held, lambda _: None)
        drain.run(stop_after_s=1.0)
        threading.Event().wait(PAUSE_S)


def main(database_url: str, judge_url: str, workers: int) -> None:
    """Starts the workers, and says so."""
    threads = [
        threading.Thread(target=work, args=(database_url, judge_url))
        for _ in range(workers)
    ]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    for thread in threads:
        thread.join()
