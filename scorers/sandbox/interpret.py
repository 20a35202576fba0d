"""Turns the transcript of one child into the result of each of its records. Pure functions."""

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
    """The result of each of the `count` records, in order.

    None means that the record must run again, alone. If the child had several records, only
    certain results count: an answer in its place, a record that itself ran out of time, and a
    failure of the jail.
    """
    if said.status is not None:
        if said.status.get("setup"):
            return [_ours(said)] * count
        if said.loaded is not None and (problem := _problem(said, said.loaded)) is not None:
            return [problem] * count
    alone = count == 1
    if said.broken is not None:
        # Code that breaks the format once may have forged the earlier answers too.
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
    """Whether the code failed to load by its own fault, so that it can run on no record."""
    return said.status is not None and not said.status.get("setup") and said.loaded is None


def _finished(said: Transcript, count: int) -> list[RunResult | None]:
    """The results of the answered records, each with its run time."""
    ran: list[RunResult | None] = []
    since_s = said.loaded.at_s if said.loaded else said.started_s
    # Answers that came in one read share the time since the last one equally: it is not known
    # how much of it each took.
    for at_s, group in groupby(said.frames[:count], key=attrgetter("at_s")):
        together = [*group]
        run_ms = 1000 * (at_s - since_s) / len(together)
        ran += [_ran(said, each, run_ms, count) for each in together]
        since_s = at_s
    return ran


def _ran(said: Transcript, frame: Frame, run_ms: float, count: int) -> RunResult:
    found = answer(frame.body)
    log, dropped = frame.log, frame.dropped
    if count == 1:                         # output that bypassed sys.stdout is this record's
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
    """The result of every record if the code said that it could not load, else None."""
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
    """The result of code that wrote to the descriptor of results itself: our runner's frames
    can always be read."""
    return RunResult(
        ended=CodeEnd.BAD_RESULT,
        detail=f"it wrote answers of its own making: {said.broken}",
        memory_mb=_memory_mb(said.status),
    )


def _failure(said: Transcript, limits: Limits) -> RunResult:
    """The result of a record that got no answer, with the reason."""
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
    """The result of a record if the jail failed and not the scorer."""
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
