"""What automations cost, and how soon a first match is posted.

Half of the rows that the machine can take in a second are offered, to one project without
automations and to one with a hundred active ones, in turn. To the second, rows that match are
logged beside, each the first match of its automation: how long after its write was acknowledged
is it posted to a webhook? Then ten thousand automations are due at once.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson

from benchmarks.contestants import ONE_RULE, ROWS_EACH, Turn
from benchmarks.latency import percentiles
from benchmarks.load import Order, load
from benchmarks.processes import difference
from benchmarks.stack import Stack
from benchmarks.tables import NOTIFICATIONS, UNREAD_CHANGES
from benchmarks.waiting import POLL_LEAST_S, wait_until_matched

AUTOMATIONS = 100
MANY = 10_000
MAKERS = 8
"""Connections that make the ten thousand automations."""

ALERT_EVERY_S = 0.25
"""Between two first matches. An endpoint takes 60 deliveries a minute, so each has its own."""

OFFER_S = 20.0
CONNECTIONS = 8
DEADLINE_S = 120.0

FILTERS = (
    "error is not null and metadata.environment = 'env-{}'",
    "scores.Levenshtein < 0.{} and metadata.alert = 'alert-{}'",
    "metadata.model = 'model-{}' and (error is not null or scores.Levenshtein < 0.5)",
    "metrics.estimated_cost > {}.5",
)
"""In turn: filters as users write them. The last kind is tested for every row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerts:
    """What was measured. `idle` and `watched` are turns without and with automations.

    `posted_ms` is from the answer to a row's request to the arrival of its first match.
    `due_s` is how long it took to form `MANY` notifications that were due at once.
    """

    offered_per_s: float
    idle: list[Turn]
    watched: list[Turn]
    posted_ms: dict[str, float]
    missing: int
    due_s: float


class Receiver:
    """A webhook that notes when each automation's notification arrived."""

    def __init__(self) -> None:
        self.arrived_s: dict[str, float] = {}
        arrived = self.arrived_s

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                arrived.setdefault(orjson.loads(body)["automation"]["name"], time.monotonic())
                self.send_response(HTTPStatus.NO_CONTENT)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def measure_alerts(
    stack: Stack, receiver: Receiver, *, rate: float, repeat: int, many: int = MANY
) -> Alerts:
    """`rate` is how many spans a second the machine takes when nothing else is asked of it."""
    offered = rate / 2
    idle: list[Turn] = []
    watched: list[Turn] = []
    delays: list[float] = []
    missing = 0
    for seed in range(repeat):
        without = stack.project(f"alerts {uuid.uuid4().hex[:8]}", rates=ONE_RULE)
        idle.append(_offer(stack, without, offered, seed=seed))
        name = f"alerts {uuid.uuid4().hex[:8]}"
        project = stack.project(name, rates=ONE_RULE)
        for number in range(AUTOMATIONS):
            make_automation(stack, project, receiver, f"{name} {number}", _filter(number))
        with _first_matches(stack, project, name) as written:
            watched.append(_offer(stack, project, offered, seed=seed))
        _wait_for(lambda: all(each in receiver.arrived_s for each in written))
        arrived = receiver.arrived_s
        delays += [(arrived[n] - at) * 1000 for n, at in written.items() if n in arrived]
        missing += sum(each not in arrived for each in written)
    return Alerts(
        offered_per_s=offered, idle=idle, watched=watched, posted_ms=percentiles(delays),
        missing=missing, due_s=_many_due(stack, receiver, many),
    )


def make_automation(
    stack: Stack, project: str, receiver: Receiver, name: str, btql_filter: str
) -> None:
    """An automation with an endpoint of its own, whose interval is longer than any turn."""
    stack.api.call("POST", "/v1/project_automation", {
        "project_id": project, "name": name,
        "config": {
            "event_type": "logs", "btql_filter": btql_filter, "interval_seconds": 3600,
            "action": {
                "type": "webhook", "url": f"http://{receiver.address}/{uuid.uuid4().hex}",
            },
        },
    })


def _filter(number: int) -> str:
    return FILTERS[number % len(FILTERS)].format(number, number)


def _offer(stack: Stack, project: str, rate: float, *, seed: int) -> Turn:
    """Rows at a steady pace, until they are scored and evaluated; with the processor time of
    all that serves."""
    host, port = stack.host_and_port
    requests = max(1, round(rate * OFFER_S / ROWS_EACH))
    order = Order(
        host=host, port=port, path="/logs3", authorization=f"Bearer {stack.key}",
        connections=CONNECTIONS, requests=requests, every_s=ROWS_EACH / rate,
        rows_each=ROWS_EACH, seed=seed, project_id=project,
    )
    spans = requests * ROWS_EACH
    with stack.connect() as reader, load(order, log=stack.log) as generator:
        before = stack.cpu_s()
        generator.go()
        answered = generator.answered()
        last = wait_until_matched(reader, project, deadline_s=DEADLINE_S)
        _wait_for(lambda: reader.execute(UNREAD_CHANGES, (project,)).fetchone() == (0,))
        used = difference(before, stack.cpu_s())
    if set(answered.statuses) != {"200"}:
        raise RuntimeError(f"the API answered {answered.statuses}")
    return Turn(
        spans=spans, seconds=last - answered.begin_s,
        cpu_us={name: seconds / spans * 1e6 for name, seconds in used.items()},
    )


@contextmanager
def _first_matches(stack: Stack, project: str, name: str) -> Iterator[dict[str, float]]:
    """Logs a row for one automation after the other, and notes when each was acknowledged."""
    written: dict[str, float] = {}
    stop = threading.Event()

    def write() -> None:
        for number in range(0, AUTOMATIONS, len(FILTERS)):
            if stop.wait(ALERT_EVERY_S):
                return
            stack.api.call("POST", f"/v1/project_logs/{project}/insert", {"events": [{
                "input": "?", "error": "out of memory",
                "metadata": {"environment": f"env-{number}"},
            }]})
            written[f"{name} {number}"] = time.monotonic()

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    try:
        yield written
    finally:
        stop.set()
        writer.join()


def _many_due(stack: Stack, receiver: Receiver, many: int) -> float:
    """Seconds from the row that all automations of a project match to the last notification."""
    project = stack.project(f"many {uuid.uuid4().hex[:8]}", rates={})
    with ThreadPoolExecutor(MAKERS) as makers:
        for _ in makers.map(
            lambda number: make_automation(stack, project, receiver, str(number), ""),
            range(many),
        ):
            pass
    with stack.connect() as reader:
        _wait_for(lambda: reader.execute(UNREAD_CHANGES, (project,)).fetchone() == (0,))
        stack.api.call(
            "POST", f"/v1/project_logs/{project}/insert", {"events": [{"input": "?"}]}
        )
        begin = time.monotonic()
        _wait_for(lambda: reader.execute(NOTIFICATIONS, (project,)).fetchone() == (many,))
        return time.monotonic() - begin


def _wait_for(is_done: Callable[[], bool]) -> None:
    """Waits until it is done, or DEADLINE_S have passed: then the figures show it."""
    until = time.monotonic() + DEADLINE_S
    pause = threading.Event()
    while not is_done():
        if time.monotonic() > until:
            return
        pause.wait(POLL_LEAST_S)
