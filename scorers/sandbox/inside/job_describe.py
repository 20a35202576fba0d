"""Imports a pushed Python bundle once, as each run of it will, and says what its handler takes.

This executes the user's modules, as a run does; nothing else is in the jail.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from typing import Any

from scorers.sandbox.inside import arguments
from scorers.sandbox.inside.bundle_python import load_handler

FRAMES = 3                               # of the traceback, from the bundle's own files
PROBLEM_CHARACTERS = 1500


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Of {folder, index}: {parameters}, null for whatever there is; or {problem}."""
    try:
        handler = load_handler(request["folder"], request["index"])
        parameters = inspect.signature(handler).parameters.values()
    # Whatever the bundle raises, `SystemExit` too, is what its author must hear.
    except BaseException as error:  # noqa: BLE001
        return {"problem": f"The bundle cannot be imported: {_told(error, request['folder'])}"}
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters):
        return {"parameters": _of_any(handler)}
    positional = inspect.Parameter.VAR_POSITIONAL
    return {"parameters": [each.name for each in parameters if each.kind is not positional]}


def _of_any(handler: Callable[..., object]) -> list[str] | None:
    try:
        return arguments.unless_declared(inspect.getsource(handler))
    except (OSError, TypeError):         # made by code that stands in no file
        return None


def _told(error: BaseException, folder: str) -> str:
    """The error, and where in the bundle it came up."""
    stack = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in stack if frame.filename.startswith(folder)][-FRAMES:]
    lines = [*traceback.format_exception_only(error), *traceback.format_list(frames)]
    return "".join(lines).strip()[:PROBLEM_CHARACTERS]
