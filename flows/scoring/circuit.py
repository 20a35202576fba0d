"""Circuits: an endpoint that does not answer is not asked by every outcome in turn.

    closed    calls are made; each tells whether the endpoint answers
    open      no call is made; outcomes that want the endpoint wait in its held queue
    probe     now and then one outcome is tried; if it gets an answer, the circuit closes

Open circuits are rows, so that all processes know of them. How many calls may be in flight is
each process's own matter: a `Gate` finds it out, as TCP finds out what a network carries.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

from spans.clock import Clock
from spans.errors import JudgeUnavailable, RateLimited, Timeout, TransientError

logger = logging.getLogger(__name__)

FAILURES_TO_OPEN = 10
"""Calls that must fail in a row until an endpoint counts as down. An endpoint that answers
every second call fails as often as that once in a thousand calls."""

FIRST_IN_FLIGHT = 64
"""Calls in flight before the endpoint has answered any. As many are wasted if it is down. At
500 ms a call, the usual 256 are reached within a second."""

PROBE_WAIT_S = 5.0
PROBE_WAIT_MAX_S = 60.0
"""Seconds until the first probe, which double with each probe that fails, up to the longest. An
outage of an hour costs 63 probes, and its end is found within a minute."""

LINE_SHARE = 8
"""An eighth of the calls that an endpoint may have in flight wait in line for it, at least one:
so a free place is taken at once. More would take the places of other endpoints' outcomes."""

FULL_WAIT_MAX_S = 300.0
"""Longest time for which an outcome is put off that found no place, seconds. A hundred thousand
of them are then claimed and put off again 330 times a second."""

CALL_S = 1.0
"""How long a call takes, as long as none has told, seconds."""

TEND_EVERY = timedelta(seconds=1)
"""How often a process looks which circuits are open, which takes it a millisecond."""

DOWN = (Timeout, RateLimited, JudgeUnavailable)
"""The errors that say something about an endpoint; others tell of the store or the span."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Circuit:
    """An open circuit. After `probe_at` one call may find out whether the endpoint answers.

    That was `probe_in_s` seconds away when the store gave this circuit: the clocks of store and
    process may differ. `probes` have been begun. `error_class` and `reason` are those of the
    last call that failed.
    """

    endpoint: str
    opened_at: datetime
    probe_at: datetime
    probe_in_s: float = field(compare=False)
    probes: int
    error_class: str
    reason: str

    @property
    def sentence(self) -> str:
        """Why outcomes are held back, and when the endpoint is tried next."""
        return (
            f"held back: the judge endpoint {self.endpoint} is down since "
            f"{self.opened_at.isoformat(timespec='seconds')} ({self.error_class}: "
            f"{self.reason}); one call tries it again at "
            f"{self.probe_at.isoformat(timespec='seconds')}"
        )


@dataclass(frozen=True, slots=True)
class Held:
    """The end of a run for which no call was made, since this circuit is open."""

    circuit: Circuit


@dataclass(frozen=True, slots=True)
class Full:
    """The end of a run that found no place: as many wait for the endpoint as may. There should
    be one in `wait_s` seconds."""

    wait_s: float


class CircuitStore(Protocol):
    """Where open circuits are kept, and outcomes are brought back from held queues."""

    def tend(self, endpoints: Collection[str]) -> Sequence[Circuit]:
        """Bring back the outcomes that may run now, and return the open circuits.

        These are: those of circuits that have closed, those that have waited as long as they
        may, and one for each circuit whose probe is due. Circuits of endpoints other than
        `endpoints` are closed. Safe to repeat; to be called every second or so.
        """
        ...

    def open(self, endpoint: str, error: TransientError, *, wait_s: float) -> Circuit:
        """Open the circuit, or note the error of a probe. The next probe is `wait_s` away."""
        ...

    def begin_probe(self, endpoint: str, *, wait_s: float) -> bool:
        """Whether this call may be the probe that is due. The next one is `wait_s` away."""
        ...

    def put_back_probe(self, endpoint: str) -> None:
        """Make the next probe due now, since the last one made no call."""
        ...

    def close(self, endpoint: str) -> None:
        """Close the circuit, and bring back the first of the outcomes that it held."""
        ...


def probe_wait_s(probes: int, asked_s: float | None = None) -> float:
    """Seconds until the next probe after so many have failed, or as the endpoint asked."""
    return max(min(PROBE_WAIT_S * 2.0 ** min(probes, 10), PROBE_WAIT_MAX_S), asked_s or 0.0)


class CallWindow:
    """How many calls may be in flight: it grows with answers, and shrinks with errors.

    Up to a threshold it grows by one with each answer, which doubles it in the time of a call;
    beyond, by one in that time. An error halves it, and sets the threshold there. Errors of
    calls that began before it shrank say nothing new.
    """

    def __init__(self, *, first: int, most: int) -> None:
        self._most = most
        self.size = float(min(first, most))
        self._threshold = float(most)
        self._shrunk_at = float("-inf")

    def grow(self) -> None:
        """Count an answer."""
        step = 1.0 if self.size < self._threshold else 1.0 / self.size
        self.size = min(self.size + step, float(self._most))

    def shrink(self, *, begun_at: float, now: float) -> None:
        """Count an error, of a call that began at `begun_at`; seconds of one clock."""
        if begun_at <= self._shrunk_at:
            return
        self._shrunk_at = now
        self.size = self._threshold = max(1.0, self.size / 2)


@dataclass(frozen=True, slots=True)
class Entry:
    """A place among the calls in flight. `begun_at` is in seconds of the loop's clock."""

    begun_at: float
    is_probe: bool


class Gate:
    """Lets the calls to one endpoint through, as far as its circuit and its window allow.

    Belongs to one event loop. Every `enter` that gives an Entry needs one `leave`.

        entry = await gate.enter()
        if isinstance(entry, Held | Full): ...
        ...
        await gate.leave(entry, error, has_called=...)

    `error` is a TransientError, or None for an answer. A run need not call: its result may be
    cached, or its span lacks what the scorer needs. Such an end says nothing of the endpoint.
    """

    def __init__(
        self, endpoint: str, store: CircuitStore, clock: Clock, *, in_flight_max: int
    ) -> None:
        self._endpoint = endpoint
        self._store = store
        self._clock = clock
        self._in_flight_max = in_flight_max
        self.places = in_flight_max + max(1, in_flight_max // LINE_SHARE)
        """How many runs may be in flight or in line."""
        self._call_s = CALL_S
        self._next_place_at = float("-inf")
        self._circuit: Circuit | None = None
        self._probe_at = clock()
        """When a probe is due, while the circuit is open, by this process's own clock."""
        self._in_flight = 0
        self._failures = 0
        self._is_opening = False
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.changes = 0
        """How often this process has opened or closed the circuit."""
        self._window = self._new_window()

    async def enter(self) -> Entry | Held | Full:
        """A place among the calls, once there is one; Held if the circuit is open.

        Full if the line is as long as it may be: it takes none of the places in which outcomes
        of other endpoints are run.
        """
        in_line = self._in_flight + len(self._waiting)
        if self._circuit is None and in_line >= self.places:
            return self._put_off()
        if in_line == 0:
            self._next_place_at = float("-inf")   # there are places again, sooner than was told
        while True:
            if (circuit := self._circuit) is not None:
                if await self._may_probe(circuit):
                    return self._begin(is_probe=True)
                return Held(circuit)
            if self._in_flight < int(self._window.size) and not self._is_opening:
                return self._begin(is_probe=False)
            await self._turn()

    async def leave(
        self, entry: Entry, error: TransientError | None, *, has_called: bool
    ) -> None:
        """Give the place back, and tell how the run ended, and whether it made a call."""
        if has_called:
            took_s = asyncio.get_running_loop().time() - entry.begun_at
            self._call_s += (took_s - self._call_s) / 8   # the last calls count most
        try:
            if has_called and error is None:
                await self._answered(entry)
            elif has_called and isinstance(error, DOWN):
                await self._failed(entry, error)
            elif entry.is_probe:
                await asyncio.to_thread(self._store.put_back_probe, self._endpoint)
        except TransientError as away:
            # The call has ended as it has. A later one opens the circuit, or is the probe.
            logger.warning("the circuit of %s is as it was: %s", self._endpoint, away)
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._window = self._new_window()   # nothing tells how the endpoint does now
            self._wake()

    def abandon(self) -> None:
        """Give a place back whose call was cancelled."""
        self._in_flight -= 1
        self._wake()

    def learn(self, circuit: Circuit | None, *, changes: int) -> None:
        """Take over the circuit as the store has it, unless this process has changed it since
        its `changes` were counted."""
        if changes == self.changes:
            if (circuit is None) is not (self._circuit is None):
                self._begin_anew()
            self._take(circuit)
            self._wake()

    def _put_off(self) -> Full:
        """Puts a run off to when it should have a place, each behind the one before."""
        now = asyncio.get_running_loop().time()
        each_s = self._call_s / max(1, int(self._window.size))
        behind_s = each_s * (len(self._waiting) + 1)
        self._next_place_at = max(self._next_place_at + each_s, now + behind_s)
        return Full(min(self._next_place_at - now, FULL_WAIT_MAX_S))

    def _begin(self, *, is_probe: bool) -> Entry:
        self._in_flight += 1
        return Entry(asyncio.get_running_loop().time(), is_probe)

    def _take(self, circuit: Circuit | None) -> None:
        self._circuit = circuit
        if circuit is not None:
            self._probe_at = self._clock() + timedelta(seconds=circuit.probe_in_s)

    async def _may_probe(self, circuit: Circuit) -> bool:
        now = self._clock()
        if now < self._probe_at:
            return False
        wait_s = probe_wait_s(circuit.probes + 1)
        # Set before the store is asked, so that the other outcomes of this process do not ask.
        self._probe_at = now + timedelta(seconds=wait_s)
        self._circuit = replace(circuit, probes=circuit.probes + 1)
        return await asyncio.to_thread(self._store.begin_probe, self._endpoint, wait_s=wait_s)

    async def _answered(self, entry: Entry) -> None:
        self._failures = 0
        self._window.grow()
        if not entry.is_probe:
            return
        await asyncio.to_thread(self._store.close, self._endpoint)
        logger.info("judge endpoint %s answers again", self._endpoint)
        self._change(None)

    async def _failed(self, entry: Entry, error: TransientError) -> None:
        self._failures += 1
        self._window.shrink(
            begun_at=entry.begun_at, now=asyncio.get_running_loop().time()
        )
        is_down = self._circuit is None and self._failures >= FAILURES_TO_OPEN
        if self._is_opening or not (is_down or entry.is_probe):
            return
        probes = self._circuit.probes if self._circuit is not None else 0
        self._is_opening = True
        try:
            circuit = await asyncio.to_thread(
                self._store.open, self._endpoint, error,
                wait_s=probe_wait_s(probes, error.retry_after_s),
            )
        finally:
            self._is_opening = False
        if self._circuit is None:
            logger.warning("judge endpoint %s is down: %s", self._endpoint, error)
        self._change(circuit)

    def _change(self, circuit: Circuit | None) -> None:
        self._take(circuit)
        self.changes += 1
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Forget what the calls before the circuit opened or closed have told."""
        self._failures = 0
        self._window = self._new_window()

    def _new_window(self) -> CallWindow:
        return CallWindow(first=FIRST_IN_FLIGHT, most=self._in_flight_max)

    async def _turn(self) -> None:
        """Waits until a place may be free, or the circuit has changed."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._wake()   # the place goes to the next
            raise

    def _wake(self) -> None:
        """Wakes as many as there are free places; all of them if the circuit is open."""
        free = int(self._window.size) - self._in_flight
        while self._waiting and (self._circuit is not None or free > 0):
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                free -= 1


class Gates:
    """The gates to all endpoints, for one event loop, and what keeps them in step.

    `in_flight_max` has the most calls in flight at once to each endpoint, by its name.
    """

    def __init__(
        self, store: CircuitStore, clock: Clock, *, loop: asyncio.AbstractEventLoop,
        in_flight_max: Mapping[str, int],
    ) -> None:
        self._store = store
        self._clock = clock
        self._loop = loop
        self._gates = {
            endpoint: Gate(endpoint, store, clock, in_flight_max=most)
            for endpoint, most in in_flight_max.items()
        }
        self._tended_at: datetime | None = None

    @property
    def places(self) -> int:
        """How many runs may be in flight or in line, at all gates together."""
        return sum(gate.places for gate in self._gates.values())

    def to(self, endpoint: str) -> Gate:
        """The gate to the endpoint of this name."""
        return self._gates[endpoint]

    def tend(self) -> None:
        """Bring back what may run, and learn which circuits are open.

        Does nothing within TEND_EVERY after the last time. To be called from a thread that may
        wait. Raises TransientError if the store is away.
        """
        now = self._clock()
        before = self._tended_at
        if before is not None and before <= now < before + TEND_EVERY:
            return
        self._tended_at = now
        changes = {endpoint: gate.changes for endpoint, gate in self._gates.items()}
        open_ones = {one.endpoint: one for one in self._store.tend(self._gates.keys())}
        self._loop.call_soon_threadsafe(self._learn, open_ones, changes)

    def _learn(self, open_ones: Mapping[str, Circuit], changes: Mapping[str, int]) -> None:
        for endpoint, gate in self._gates.items():
            gate.learn(open_ones.get(endpoint), changes=changes[endpoint])
