"""From what was heard of one child to what came of each record. Pure."""

from __future__ import annotations

import signal
from itertools import groupby
from operator import attrgetter

from scorers.sandbox.exchange import Transcript
from scorers.sandbox.frame_reader import Frame, answer, readable
from scorers.sandbox.model import CodeEnd, Limits, RunResult
from spans.json import JsonObject

_DETAIL_CHARACTERS = 2048


def interpret(said: Transcript, count: int, limits: Limits) -> list[RunResult | None]:
    """One for each of the `count` records, in order. None: to be run again, on its own.

    With several records, only what is certain counts: an answer in its place, a record whose
    own time ran out, and whatever went wrong with the jail.
    """
    if said.status is not None:
        if said.status.get("setup"):
            return [_ours(said)] * count
        if said.loaded is not None and (problem := _problem(said, said.loaded)) is not None:
            return [problem] * count
    alone = count == 1
    if said.broken is not None:
        # Whoever breaks the form once may have forged what came before.
        return [_bad(said)] if alone else [None] * count
    finished = _finished(said, count)
    missing = count - len(finished)
    if not missing:
        return finished
    if said.status is None:
        return [*finished, *[_ours(said)] * missing]
    is_certain = alone or (said.timed_out and said.loaded is not None)
    first = [_failure(said, limits)] if is_certain else [None]
    return [*finished, *first, *[None] * (missing - 1)]


def failed_to_load(said: Transcript) -> bool:
    """Whether no record was begun, by the scorer's own fault: none of its records can be."""
    return said.status is not None and not said.status.get("setup") and said.loaded is None


def _finished(said: Transcript, count: int) -> list[RunResult | None]:
    """The answers, each with its share of the time since those before it."""
    ran: list[RunResult | None] = []
    since_s = said.loaded.at_s if said.loaded else said.started_s
    # What arrived in one read shares its time: nobody knows who took how much of it.
    for at_s, group in groupby(said.frames[:count], key=attrgetter("at_s")):
        together = [*group]
        run_ms = 1000 * (at_s - since_s) / len(together)
        ran += [_ran(said, each, run_ms, count) for each in together]
        since_s = at_s
    return ran


def _ran(said: Transcript, frame: Frame, run_ms: float, count: int) -> RunResult:
    found = answer(frame.body)
    log, dropped = frame.log, frame.dropped
    if count == 1:                         # what went past sys.stdout is its own, too
        log, dropped = log + bytes(said.log), dropped + said.log_dropped
    return RunResult(
        ended=found.ended,
        value=found.value,
        detail=found.detail,
        log=_text(log),
        log_dropped=dropped,
        run_ms=run_ms,
        memory_mb=_memory_mb(said.status),
    )


def _problem(said: Transcript, loaded: Frame) -> RunResult | None:
    """What is wrong with the scorer's code, if it did not load."""
    found = answer(loaded.body)
    if found.ended is CodeEnd.OK:
        return None
    return RunResult(
        ended=found.ended,
        detail=found.detail,
        log=_text(loaded.log),
        log_dropped=loaded.dropped,
        run_ms=1000 * (loaded.at_s - said.started_s),
        memory_mb=_memory_mb(said.status),
    )


def _bad(said: Transcript) -> RunResult:
    """Only who writes to the descriptor of results by himself sends what cannot be read."""
    return RunResult(
        ended=CodeEnd.BAD_RESULT,
        detail=f"it wrote answers of its own making: {said.broken}",
        memory_mb=_memory_mb(said.status),
    )


def _failure(said: Transcript, limits: Limits) -> RunResult:
    """Why there is no answer."""
    ended, detail = _reason(said, said.status or {}, limits)
    given_s = limits.time_s if said.loaded else limits.loading_s
    return RunResult(
        ended=ended,
        detail=detail,
        log=_text(bytes(said.log)),
        log_dropped=said.log_dropped,
        run_ms=1000 * given_s if ended is CodeEnd.TIMEOUT else 0.0,
        memory_mb=_memory_mb(said.status),
    )


def _reason(said: Transcript, status: JsonObject, limits: Limits) -> tuple[CodeEnd, str]:
    if status.get("killed") == "memory":
        return CodeEnd.KILLED, f"it held more than {limits.memory_mb} MB of memory (memory_mb)"
    if said.timed_out or status.get("killed"):
        if said.loaded is None:
            return CodeEnd.TIMEOUT, f"its code did not load within {limits.loading_s:g} s"
        return CodeEnd.TIMEOUT, f"no result within {limits.time_s:g} s"
    number = status.get("signal")
    if isinstance(number, int):
        return CodeEnd.KILLED, _killed(signal.Signals(number), limits)
    return CodeEnd.NO_RESULT, f"it ended without a result (exit {status.get('exit')})"


def _killed(by: signal.Signals, limits: Limits) -> str:
    match by:
        case signal.SIGSYS:
            return "killed by SIGSYS: a system call in another architecture's numbering"
        case signal.SIGKILL:
            return (
                f"killed by SIGKILL: out of memory (memory_mb is {limits.memory_mb}), "
                "or by itself"
            )
        case _:
            return f"killed by {by.name}"


def _ours(said: Transcript) -> RunResult:
    """The jail's failure, and not the scorer's."""
    if said.status is None:
        return RunResult(ended=CodeEnd.SANDBOX_LOST, detail="the sandbox ended while it ran")
    return RunResult(
        ended=CodeEnd.INFRA_ERROR,
        detail=f"the sandbox could not be built: {said.status['setup']}"[:_DETAIL_CHARACTERS],
    )


def _memory_mb(status: JsonObject | None) -> float:
    kilobytes = (status or {}).get("memory_kb")
    return kilobytes / 1024 if isinstance(kilobytes, int | float) else 0.0


def _text(log: bytes) -> str:
    return readable(log.decode("utf-8", "backslashreplace"))
