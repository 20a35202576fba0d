"""Open circuits in memory, over the outcomes of a MemoryScoring."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import timedelta

from fakes.memory.scoring import MemoryScoring, Outcome

from flows.scoring.circuit import Circuit
from spans.errors import TransientError
from spans.queues import HELD, JUDGE, held_queue


class MemoryCircuits:
    """Implements flows.scoring.circuit.CircuitStore for all processes."""

    def __init__(self, shared: MemoryScoring, *, budget_s: float) -> None:
        self._shared = shared
        self._budget = timedelta(seconds=budget_s)
        self._open: dict[str, Circuit] = {}

    def present(self) -> Sequence[Circuit]:
        with self._shared.transaction("present"):
            return list(self._open.values())

    def tend(self, endpoints: Collection[str]) -> Sequence[Circuit]:
        with self._shared.transaction("tend"):
            now = self._shared.clock()
            self._open = {name: one for name, one in self._open.items() if name in endpoints}
            for queue in self._held_queues():
                circuit = self._open.get(queue.removeprefix(HELD))
                if circuit is None:
                    self._bring_back(queue, lambda _: True)
                    continue
                if circuit.probe_at <= now:
                    self._bring_back(queue, lambda _: True, limit=1)
                if circuit.opened_at <= now - self._budget:
                    self._bring_back(queue, lambda one: one.next_attempt_at <= now)
            return list(self._open.values())

    def open(self, endpoint: str, error: TransientError, *, wait_s: float) -> Circuit:
        with self._shared.transaction("open"):
            now = self._shared.clock()
            probe_at = now + timedelta(seconds=wait_s)
            known = self._open.get(endpoint)
            self._open[endpoint] = Circuit(
                endpoint=endpoint, opened_at=known.opened_at if known else now,
                probe_at=max(probe_at, known.probe_at) if known else probe_at,
                probes=known.probes if known else 0, error_class=error.error_class(),
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

    def close(self, endpoint: str) -> None:
        with self._shared.transaction("close"):
            self._open.pop(endpoint, None)
            self._bring_back(held_queue(endpoint), lambda _: True)

    def _held_queues(self) -> set[str]:
        return {
            one.queue for one in self._shared.outcomes.values()
            if one.is_waiting and one.queue.startswith(HELD)
        }

    def _bring_back(
        self, queue: str, may_run: Callable[[Outcome], bool], *, limit: int | None = None
    ) -> None:
        held = sorted(
            (one for one in self._shared.outcomes.values()
             if one.queue == queue and one.is_waiting and one.is_lead and may_run(one)),
            key=lambda one: one.created,
        )
        for one in held[:limit]:
            one.queue, one.next_attempt_at = JUDGE, self._shared.clock()
