"""Runs a Python scorer on the records of one order.

The process is locked in by now. This code shares the process with the scorer, which may change
any of it. So it only carries records and results; it decides nothing.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import sys
import traceback
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scorers.sandbox.inside import frames, llm, network, returned
from scorers.sandbox.inside.bundle_python import load_handler
from scorers.sandbox.inside.output import Output
from scorers.sandbox.inside.trace import Trace

FILE = "scorer.py"
_PLACES_MAX = 10                          # innermost lines of a traceback that are told

# The fields of a record. If a handler declares one that the record lacks, it gets None.
_ARGUMENTS = frozenset({"input", "output", "expected", "metadata", "tags", "id", "trace"})

Handler = Callable[..., Any]


def run() -> None:
    """Load the scorer, then send an answer for each record."""
    request = json.loads(frames.read_text())
    program = request["program"]
    output = Output(program["log_bytes"])
    output.install()
    llm.offer()
    network.install()
    try:
        call = _Call.of(_load(program), program)
    # Loading runs the scorer's own code, which may raise anything.
    except BaseException as error:  # noqa: BLE001
        kind = "memory" if isinstance(error, MemoryError) else "invalid_source"
        frames.write({"error": _failure(error, kind, program)}, *output.take())
        return
    frames.ready()
    for record in request["records"]:
        body, changes = _body(call, record, program)
        for change in changes:
            output.note(change)
        frames.send(body, *output.take())


@dataclass(frozen=True, slots=True)
class _Call:
    """A handler, and the arguments that it declares."""

    handler: Handler
    positional: tuple[str, ...]
    named: frozenset[str] | None          # None: all that the record has

    @classmethod
    def of(cls, handler: Handler, program: dict[str, Any]) -> _Call:
        kinds = inspect.Parameter
        declared = inspect.signature(handler).parameters.values()
        if any(each.kind is kinds.VAR_KEYWORD for each in declared):
            given = program.get("parameters")
            return cls(handler, (), None if given is None else frozenset(given))
        return cls(
            handler,
            tuple(each.name for each in declared if each.kind is kinds.POSITIONAL_ONLY),
            frozenset(
                each.name
                for each in declared
                if each.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
                and (each.name in _ARGUMENTS or each.default is kinds.empty)
            ),
        )

    def __call__(self, record: dict[str, Any]) -> object:
        if "trace" in record:
            record["trace"] = Trace(record["trace"] or {})
        positional = [record.get(name) for name in self.positional]
        if self.named is None:
            return self.handler(*positional, **record)
        named = {
            name: record.get(name)
            for name in self.named
            if name in record or name in _ARGUMENTS
        }
        return self.handler(*positional, **named)


def _load(program: dict[str, Any]) -> Handler:
    """The handler of inline code or of a bundle."""
    if program.get("bundle"):
        return load_handler(program["folder"], program["index"] or 0)
    module = types.ModuleType("scorer")
    sys.modules["scorer"] = module
    code = compile(program["code"], FILE, "exec", dont_inherit=True)
    exec(code, module.__dict__)  # noqa: S102 what this process is for
    return _handler(module)


def _handler(module: types.ModuleType) -> Handler:
    """`handler`, else the last function that the code defines at its top level."""
    named = getattr(module, "handler", None)
    if callable(named):
        return named  # type: ignore[no-any-return]  # whatever it returns is checked
    own = [
        each
        for each in vars(module).values()
        if isinstance(each, types.FunctionType) and each.__code__.co_filename == FILE
    ]
    if not own:
        raise LookupError("the code defines no function: name it handler")
    return own[-1]


def _body(
    call: _Call, record: dict[str, Any], program: dict[str, Any]
) -> tuple[bytes, list[str]]:
    """The body with the handler's result for the record, or with its error.

    The lines say what was changed so that the result can be stored.
    """
    try:
        value = call(record)
        if inspect.isawaitable(value):
            value = _loop().run(_awaited(value))
    except MemoryError as error:
        return _refused(_failure(error, "memory", program))
    # The handler is foreign code on foreign data. Whatever it raises is this record's error.
    except BaseException as error:  # noqa: BLE001
        return _refused(_failure(error, "exception", program))
    try:
        return returned.encoded(value, program["result_bytes"])
    except returned.ResultTooLarge as error:
        return _refused({"kind": "result_too_large", "message": str(error)})
    except returned.NotAScore as error:
        message = frames.storable(str(error))
        return _refused({"kind": "bad_result", "message": message})
    except BaseException as error:  # noqa: BLE001 the result's own methods run here, too
        return _refused(frames.described(error, "bad_result"))


@functools.cache
def _loop() -> asyncio.Runner:
    """The event loop for all records, made when the first one needs it."""
    return asyncio.Runner()


async def _awaited(value: Any) -> object:  # noqa: ANN401 any awaitable
    return await value


def _refused(error: dict[str, str]) -> tuple[bytes, list[str]]:
    return frames.encoded({"error": error}), []


def _failure(error: BaseException, kind: str, program: dict[str, Any]) -> dict[str, str]:
    """The exception as a body's `error`, with the lines of the author's code that raised it."""
    described = frames.described(error, kind)
    own = f"{program['folder']}/"
    try:
        places = [
            f"{each.filename.removeprefix(own)}:{each.lineno} in {each.name}"
            for each in traceback.extract_tb(error.__traceback__)
            if each.filename == FILE or each.filename.startswith(own)
        ]
        reason = network.reason(error)
    except BaseException:  # noqa: BLE001 the exception is the scorer's own, whatever it holds
        places, reason = [], None
    if reason:
        described["message"] += f"\n{reason}"
    if isinstance(error, SyntaxError) and error.filename == FILE:
        places.append(f"{FILE}:{error.lineno}:{error.offset}")
    if places:
        described["message"] += "\n" + "\n".join(places[-_PLACES_MAX:])
    return described
