"""Open circuits in memory, over the outcomes of a MemoryScoring."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import timedelta

from fakes.memory.scoring import MemoryScoring, Outcome

from flows.scoring.circuit import Circuit
from spans.errors import TransientError
from spans.queues import HELD, HELD_BY_BUDGET, HELD_BY_JOB, JUDGE, held_queue

PROBE_CHOICE = 100
FORGOTTEN = timedelta(seconds=180)


class MemoryCircuits:
    """Implements flows.scoring.circuit.CircuitStore for all processes."""

    def __init__(self, shared: MemoryScoring, *, budget_s: float, wait_max_s: float) -> None:
        self._shared = shared
        self._wait_max_s = wait_max_s
        self._budget = timedelta(seconds=budget_s)
        self._open: dict[str, Circuit] = {}

    def present(self) -> Sequence[Circuit]:
        with self._shared.transaction("present"):
            return self._present()

    def tend(self, endpoints: Collection[str]) -> Sequence[Circuit]:
        with self._shared.transaction("tend"):
            now = self._shared.clock()
            self._open = {
                name: one for name, one in self._open.items()
                if name in endpoints or one.probe_at > now - FORGOTTEN
            }
            for queue in self._held_queues():
                circuit = self._open.get(queue.removeprefix(HELD))
                if circuit is None:
                    self._bring_back_all(queue)
                    continue
                if circuit.probe_at <= now:
                    self._bring_back_probe(queue, circuit.probes)
                if circuit.opened_at <= now - self._budget:
                    self._bring_back(queue, lambda one: one.next_attempt_at <= now)
            return [one for one in self._present() if one.endpoint in endpoints]

    def open(self, endpoint: str, error: TransientError, *, wait_s: float) -> Circuit:
        with self._shared.transaction("open"):
            now = self._shared.clock()
            probe_at = now + timedelta(seconds=wait_s)
            known = self._open.get(endpoint)
            self._open[endpoint] = Circuit(
                endpoint=endpoint, opened_at=known.opened_at if known else now,
                probe_at=max(probe_at, known.probe_at) if known else probe_at,
                probe_in_s=wait_s, probes=known.probes if known else 0,
                error_class=error.error_class(),
                reason=str(error).replace("\0", "\ufffd"),
            )
            return self._open[endpoint]

    def begin_probe(self, endpoint: str, *, wait_s: float) -> bool:
        with self._shared.transaction("begin_probe"):
            now = self._shared.clock()
            circuit = self._open.get(endpoint)
            if circuit is None or circuit.probe_at > now:
                return False
            self._open[endpoint] = replace(
                circuit, probe_at=now + timedelta(seconds=wait_s), probes=circuit.probes + 1
            )
            return True

    def put_back_probe(self, endpoint: str) -> None:
        with self._shared.transaction("put_back_probe"):
            if circuit := self._open.get(endpoint):
                self._open[endpoint] = replace(circuit, probe_at=self._shared.clock())

    def close(self, endpoint: str) -> None:
        with self._shared.transaction("close"):
            self._open.pop(endpoint, None)
            self._bring_back_all(held_queue(endpoint))

    def _present(self) -> list[Circuit]:
        now = self._shared.clock()
        return [
            replace(one, probe_in_s=max((one.probe_at - now).total_seconds(), 0.0))
            for one in self._open.values()
        ]

    def _held_queues(self) -> set[str]:
        return {
            one.queue for one in self._shared.outcomes.values()
            if one.is_waiting and one.queue.startswith(HELD)
            and not one.queue.startswith((HELD_BY_JOB, HELD_BY_BUDGET))
        }

    def _bring_back_all(self, queue: str) -> None:
        held = self._held(queue)
        self._bring_back(queue, lambda _: True)
        for one in held:
            if one.attempts:
                wait_s = min(2.0 ** one.attempts, self._wait_max_s)
                one.next_attempt_at += timedelta(seconds=wait_s)

    def _bring_back_probe(self, queue: str, probes: int) -> None:
        held = self._held(queue)
        few = held[:PROBE_CHOICE] if probes % 2 == 0 else held[::-1][:PROBE_CHOICE]
        if few:
            chosen = min(few, key=lambda one: one.attempts)
            self._bring_back(queue, lambda one: one is chosen)

    def _bring_back(self, queue: str, may_run: Callable[[Outcome], bool]) -> None:
        for one in filter(may_run, self._held(queue)):
            one.queue, one.next_attempt_at = JUDGE, self._shared.clock()

    def _held(self, queue: str) -> list[Outcome]:
        return sorted(
            (one for one in self._shared.outcomes.values()
             if one.queue == queue and one.is_waiting and one.is_lead),
            key=lambda one: one.created,
        )
