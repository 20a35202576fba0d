"""Keeps jails ready for scorers: one for each version of a scorer, shared with no other.

A start takes long beside a run, so a jail is kept after a run and used for the next run of the
same version. No other scorer or version ever gets that jail.
"""

from __future__ import annotations

import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Self

from scorers.sandbox.bubblewrap import BUNDLE
from scorers.sandbox.cgroup import Cgroups, find_home
from scorers.sandbox.exchange import Broker, JailLost, Transcript, exchange
from scorers.sandbox.interpret import failed_to_load, interpret
from scorers.sandbox.jail import Jail
from scorers.sandbox.model import CodeEnd, Isolation, Limits, Program, RunResult, Runtime
from scorers.sandbox.place import Bind, Place
from scorers.sandbox.request import batches, encode_record, request
from spans.errors import SandboxUnavailable
from spans.json import JsonObject


@dataclass(frozen=True, slots=True)
class Owner:
    """The owner of a jail: one version of one scorer. Two owners never share a jail."""

    project_id: str
    scorer_id: str
    version: str


@dataclass(slots=True)
class _Kept:
    """A jail in the pool, perhaps still starting.

    `users` counts the runs in it now. `used_s` is when the last one ended (time.monotonic).
    """

    jail: Future[Jail] = field(default_factory=Future)
    users: int = 0
    used_s: float = 0.0


_Key = tuple[Owner, str | None]


class _Lines:
    """The socket over which one run sends its orders to a jail.

    With `is_kept` all orders go over a line to one supervisor, which saves a process for each
    order after the first. Otherwise each goes over the jail's control socket.
    """

    def __init__(self, *, is_kept: bool) -> None:
        self._is_kept = is_kept
        self._jail: Jail | None = None
        self._line: socket.socket | None = None

    def to(self, jail: Jail) -> socket.socket:
        """The socket on which this jail takes orders. Raises JailLost if the jail has ended."""
        if not self._is_kept:
            return jail.control
        if self._line is None or self._jail is not jail:
            self.close()
            try:
                self._line = jail.line()
            except OSError as error:
                raise JailLost(str(error)) from error
            self._jail = jail
        return self._line

    def close(self) -> None:
        """Close the line, if one is open. Its supervisor then ends."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class _Run:
    """The arguments that all children of one run share."""

    owner: Owner
    program: Program
    broker: Broker | None
    lines: _Lines


class Sandboxes:
    """Runs scorers, each in a jail of its owner. Thread-safe.

    A jail stays after a run, for the next run of the same owner. At most `kept` jails stay, and
    the least recently used one is ended first. `let_go_idle` ends those idle for `idle_s`
    seconds.

        sandboxes = Sandboxes(find_place(), kept=16, idle_s=60.0)
        (result,) = sandboxes.run(owner, program, [{"output": "Hello"}])
        if result.ended is CodeEnd.OK: ...
    """

    def __init__(self, place: Place, *, kept: int, idle_s: float) -> None:
        self.place = place
        # A bundle brings all its packages along in its own versions, and our jobs need none. So
        # their jails are without the packages for inline code.
        self._bare = replace(place, packages=None, preload=())
        # Code that calls models has a process for each record (`scorers.run.code`), and would
        # spend half a second of each on the import.
        self._lent = replace(place, preload=(*place.preload, *place.preload_for_models))
        self._kept = kept
        self._idle_s = idle_s
        self._jails: OrderedDict[_Key, _Kept] = OrderedDict()    # least recently used first
        self._is_closed = False
        self._lock = Lock()
        self._cgroups = Cgroups(find_home())
        # A jail ends with the thread that started it, so this thread lives as long as the pool.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="sandbox-start")

    def run(
        self,
        owner: Owner,
        program: Program,
        records: Sequence[JsonObject],
        broker: Broker | None = None,
    ) -> list[RunResult]:
        """Run the program on each record; the results are in the records' order.

        Each batch runs in a child process of its own. If a child ends early, its remaining
        records run again, one to a child, so that one bad record cannot spoil the others. This
        never raises for what a scorer does.
        """
        texts = [encode_record(each) for each in records]
        found: list[RunResult | None] = [None] * len(records)
        with _Lines(is_kept=program.isolation is Isolation.RECORD) as lines:
            run = _Run(owner, program, broker, lines)
            for places in batches(program, texts):
                said = self._child(run, [texts[each] for each in places])
                results = _results(said, len(places), program)
                for place, ran in zip(places, results, strict=True):
                    found[place] = ran
            self._run_alone(run, texts, found)
        return [each for each in found if each is not None]

    def do(
        self,
        job: str,
        asked: JsonObject,
        *,
        limits: Limits,
        binds: Sequence[Bind] = (),
    ) -> RunResult:
        """Run one job of ours (`inside/job_<job>.py`, or "node") in a jail made for it.

        `asked` is the job's request, and the result's `value` is its answer.
        """
        if job == Runtime.NODE and (lack := self.place.lacks(Runtime.NODE)):
            return RunResult(ended=CodeEnd.INFRA_ERROR, detail=lack)
        try:
            jail = self._started(self._bare, binds)
        except SandboxUnavailable as error:
            return _unavailable(error)
        except JailLost as error:
            return _lost(error)
        try:
            with self._cgroups.lend(limits.memory_mb) as cgroup:
                said = exchange(
                    jail.control,
                    job,
                    encode_record(asked),
                    count=1,
                    limits=limits,
                    cgroup=cgroup,
                )
        except JailLost as error:
            return _lost(error)
        except OSError as error:
            return _no_room(error)
        finally:
            jail.end()
        (ran,) = interpret(said, 1, limits)
        return ran or RunResult(ended=CodeEnd.SANDBOX_LOST, detail="the sandbox said nothing")

    def let_go_idle(self) -> int:
        """End the jails that have been idle for `idle_s`; return how many were ended."""
        before_s = time.monotonic() - self._idle_s
        return self._end_unused(lambda each, _: each.used_s < before_s)

    def close(self) -> None:
        """End all jails. Runs that are under way in them end as SANDBOX_LOST."""
        with self._lock:
            self._is_closed = True
            kept = [*self._jails.values()]
            self._jails.clear()
        for each in kept:
            _end(each)
        self._starter.shutdown()
        self._cgroups.close()

    def _run_alone(self, run: _Run, texts: list[bytes], found: list[RunResult | None]) -> None:
        """Run each record that has no result yet in a child of its own."""
        for place, text in enumerate(texts):
            if found[place] is not None:
                continue
            said = self._child(run, [text])
            (ran,) = _results(said, 1, run.program)
            found[place] = ran
            if isinstance(said, Transcript) and failed_to_load(said):
                # The code has now failed to load twice. Loading does not depend on the record,
                # so all remaining records get this result.
                found[:] = [each or ran for each in found]

    def _child(self, run: _Run, texts: list[bytes]) -> Transcript | RunResult:
        """Run one child on these records; a RunResult if no jail could be started."""
        program = run.program
        if lack := self.place.lacks(program.runtime):
            return RunResult(ended=CodeEnd.INFRA_ERROR, detail=lack)
        try:
            folder = self._bundle(program.bundle)
        except SandboxUnavailable as error:
            return _unavailable(error)
        text = request(program, texts, folder=self.place.seen(folder) if folder else None)
        asked = run.broker if program.models else None
        lost = JailLost("")
        for _ in range(2):                 # a kept jail may have died while it was idle
            try:
                memory = self._cgroups.lend(program.limits.memory_mb)
                with self._borrowed(run.owner, program) as jail, memory as cgroup:
                    said = exchange(
                        run.lines.to(jail),
                        program.runtime,
                        text,
                        count=len(texts),
                        limits=program.limits,
                        cgroup=cgroup,
                        broker=asked,
                    )
                    if said.status is None:
                        jail.end()
            except SandboxUnavailable as error:
                return _unavailable(error)
            except JailLost as error:
                run.lines.close()
                lost = error
            except OSError as error:
                run.lines.close()
                return _no_room(error)
            else:
                if said.status is not None or said.loaded is not None:
                    return said
                lost = JailLost("before the code was loaded")
        return _lost(lost)

    @contextmanager
    def _borrowed(self, owner: Owner, program: Program) -> Iterator[Jail]:
        """The owner's jail for the time of a block, started if there is none.

        Raises SandboxUnavailable, and JailLost if the jail has ended or the pool is closed.
        """
        key = (owner, program.bundle)
        with self._lock:
            if self._is_closed:
                raise JailLost("its worker stops")
            kept = self._jails.get(key)
            is_new = kept is None or (_is_over(kept) and not kept.users)
            dead = kept if is_new else None
            if kept is None or is_new:
                kept = self._jails[key] = _Kept()
            kept.users += 1
            self._jails.move_to_end(key)
        try:
            if dead is not None:
                _end(dead)
            if is_new:
                self._end_unused(lambda _, more: more > 0)
                self._start(kept, program)
            yield kept.jail.result()
        finally:
            with self._lock:
                kept.users -= 1
                kept.used_s = time.monotonic()
                is_over = _is_over(kept)
                if is_over and self._jails.get(key) is kept:
                    del self._jails[key]
                is_left = is_over and not kept.users
            if is_left:
                _end(kept)
            self._end_unused(lambda _, more: more > 0)

    def _start(self, kept: _Kept, program: Program) -> None:
        try:
            bundle = self._bundle(program.bundle)
            if bundle is not None:
                started = self._started(self._bare, [bundle])
            else:
                started = self._started(self._lent if program.models else self.place, [])
            kept.jail.set_result(started)
        # Other threads may wait for the same jail, so they must get the error too.
        except BaseException as error:
            kept.jail.set_exception(error)
            raise

    def _started(self, place: Place, binds: Sequence[Bind]) -> Jail:
        """A new jail. Raises SandboxUnavailable, and JailLost if the pool has been closed."""
        with self._lock:
            if self._is_closed:
                raise JailLost("its worker stops")
            starting = self._starter.submit(Jail, place, binds)
        return starting.result()

    def _bundle(self, digest: str | None) -> Bind | None:
        if digest is None:
            return None
        return Bind(source=self.place.bundle(digest), target=BUNDLE)

    def _end_unused(self, is_over: Callable[[_Kept, int], bool]) -> int:
        """End those unused jails for which `is_over` is true; return how many were ended.

        `is_over` gets the jail and the number of jails above `kept`.
        """
        ended: list[_Kept] = []
        with self._lock:
            for key, kept in [*self._jails.items()]:
                if not kept.users and is_over(kept, len(self._jails) - self._kept):
                    ended.append(self._jails.pop(key))
        for kept in ended:
            _end(kept)
        return len(ended)


def _end(kept: _Kept) -> None:
    """End the jail and remove its files. It may have died before, or failed to start."""
    with suppress(SandboxUnavailable, JailLost):
        kept.jail.result().end()


def _is_over(kept: _Kept) -> bool:
    """Whether the jail failed to start, or has ended since."""
    done = kept.jail.done()
    return done and (kept.jail.exception() is not None or not kept.jail.result().is_alive)


def _results(
    said: Transcript | RunResult, count: int, program: Program
) -> list[RunResult | None]:
    if isinstance(said, RunResult):
        return [said] * count
    return interpret(said, count, program.limits)


def _unavailable(error: SandboxUnavailable) -> RunResult:
    return RunResult(ended=CodeEnd.INFRA_ERROR, detail=str(error))


def _lost(error: JailLost) -> RunResult:
    return RunResult(ended=CodeEnd.SANDBOX_LOST, detail=f"the sandbox ended: {error}")


def _no_room(error: OSError) -> RunResult:
    """The worker lacks descriptors or memory for the run, which mostly passes soon."""
    return RunResult(
        ended=CodeEnd.INFRA_ERROR, detail=f"this worker has no room for a run: {error}"
    )
