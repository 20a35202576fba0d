"""A function's code, checked in a sandbox before it is kept."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from scorers.functions.body import BundledCode, FunctionBody, InlineCode
from scorers.functions.function import Function
from scorers.sandbox.model import CodeCheck, Program
from spans.errors import InvalidSource

CodeChecker = Callable[[InlineCode | BundledCode], Awaitable[CodeCheck]]
"""Has a sandbox worker look at code. Raises NoWorker where there is none."""


async def program_of(
    body: FunctionBody, present: Function | None, check: CodeChecker, *,
    uploaded: str | None = None,
) -> Program | None:
    """What runs the function's code, as far as that is known: a bundle may come later.

    `present` is the function as it is kept now; code that it has already is not checked
    again. `uploaded` is the hash of the bundle's bytes, if they are there. Raises
    InvalidSource.
    """
    code: InlineCode | BundledCode | None = body.source
    if body.bundle_id is not None and uploaded is not None:
        code = body.bundled(uploaded)
    if code is None:
        return None
    if present is not None and present.program is not None and (
        present.body.function_data == body.function_data
    ):
        return body.with_settings(present.program)
    checked = await check(code)
    if checked.program is None:
        raise InvalidSource(
            checked.problem or "the source is no scorer", line=checked.line,
            column=checked.column,
        )
    return body.with_settings(checked.program)
