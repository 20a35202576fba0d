"""Imports a pushed Python bundle as each run of it will, and finds its handler's parameters.

This executes the user's modules. Nothing else is in the jail.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from typing import Any

from scorers.sandbox.inside import arguments, llm, network
from scorers.sandbox.inside.bundle_python import load_handler

FRAMES = 3                               # innermost frames of the traceback that are told
PROBLEM_CHARACTERS = 1500


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """For {folder, index}, answer {parameters} or {problem}. Null parameters mean all."""
    llm.offer()
    network.install()
    try:
        handler = load_handler(request["folder"], request["index"])
        parameters = inspect.signature(handler).parameters.values()
    # The author must be told whatever the bundle raises, even `SystemExit`.
    except BaseException as error:  # noqa: BLE001
        return {"problem": f"The bundle cannot be imported: {_told(error, request['folder'])}"}
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters):
        return {"parameters": _of_any(handler)}
    positional = inspect.Parameter.VAR_POSITIONAL
    return {"parameters": [each.name for each in parameters if each.kind is not positional]}


def _of_any(handler: Callable[..., object]) -> list[str] | None:
    try:
        return arguments.unless_declared(inspect.getsource(handler))
    except (OSError, TypeError):         # its source is in no file
        return None


def _told(error: BaseException, folder: str) -> str:
    """The error, and where in the bundle it was raised."""
    stack = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in stack if frame.filename.startswith(folder)][-FRAMES:]
    lines = [*traceback.format_exception_only(error), *traceback.format_list(frames)]
    return "".join(lines).strip()[:PROBLEM_CHARACTERS]
