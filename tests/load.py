"""Clients under load: they log spans, and send again, unchanged, what was not answered."""

from __future__ import annotations

import json
import random
import threading
from typing import Any

import httpx2
from checker import Log
from stack import Stack

ROWS = 8
"""Of one request."""

PAUSE_S = 0.1
JUDGED_SHARE = 0.2
CHANGED_SHARE = 0.15
DEAR_SHARE = 0.1
DEAR = "four " * 20
"""A text that is dear to compare where TALLYARD_COST_LIMIT is DEAR_COST."""

DEAR_COST = "1000"
REQUEST_TIMEOUT_S = 20.0


def span(row_id: str, *, output: str = "4", expected: str = "4", **more: Any) -> dict[str, Any]:
    """A finished span; its input names it, so that a judge's call can be told."""
    return {
        "id": row_id, "input": f"<{row_id}> 2 + 2", "output": output, "expected": expected,
        "metrics": {"start": 1.0, "end": 2.0}, **more,
    }


class Load:
    """Clients that log to `project` until they are stopped, or each has sent `requests_max`.

    Each writes rows of its own, new ones and now and then a changed output of an old one, one
    request after the other: what was acknowledged last is what must be there.
    """

    def __init__(
        self, stack: Stack, project: str, log: Log, *, seed: int, clients: int = 2,
        requests_max: int = 10_000,
    ) -> None:
        self._url = f"{stack.api_url}/v1/project_logs/{project}/insert"
        self._headers = {
            "authorization": f"Bearer {stack.key()}", "content-type": "application/json",
        }
        self._log = log
        self._requests_max = requests_max
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number, random.Random(f"{seed} {number}")))
            for number in range(clients)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self.join()

    @property
    def answered(self) -> int:
        """How many requests were acknowledged."""
        return len(self._log.acknowledged)

    def is_over(self) -> bool:
        """Whether every client has sent all it had."""
        return not any(thread.is_alive() for thread in self._threads)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(60)

    def _run(self, number: int, dice: random.Random) -> None:
        with httpx2.Client(timeout=REQUEST_TIMEOUT_S, trust_env=False) as client:
            for request in range(self._requests_max):
                if self._stopping.is_set():
                    return
                self._send(client, _events(number, request, dice))
                self._stopping.wait(PAUSE_S)

    def _send(self, client: httpx2.Client, events: list[dict[str, Any]]) -> None:
        """Send until it is answered 2xx, or everything is stopped."""
        body = json.dumps({"events": events}).encode()
        request = self._log.send(events)
        while True:
            try:
                answer = client.post(self._url, content=body, headers=self._headers)
            except httpx2.TransportError:
                pass   # no answer: stored or not, it is sent again
            else:
                if answer.status_code == 200:
                    self._log.acknowledge(request)
                    return
                self._log.refuse(answer.status_code, answer.headers.get("retry-after"))
                if answer.status_code != 503:
                    self._log.surprise(f"answered {answer.status_code}: {answer.text[:300]}")
                    return
            if self._stopping.wait(PAUSE_S):
                return


def _events(client: int, request: int, dice: random.Random) -> list[dict[str, Any]]:
    events = [
        span(
            f"c{client}r{request}n{place}",
            output=DEAR if dice.random() < DEAR_SHARE else str(dice.randint(1, 4)),
            expected=dice.choice(["4", DEAR]),
            metadata={"judged": dice.random() < JUDGED_SHARE},
        )
        for place in range(ROWS)
    ]
    for place in range(ROWS):
        if request and dice.random() < CHANGED_SHARE:
            row_id = f"c{client}r{dice.randrange(request)}n{place}"
            events.append({"id": row_id, "output": str(dice.randint(5, 9)), "_is_merge": True})
    return events
