"""Checks a function's code in a sandbox before the function is stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from scorers.functions.body import BundledCode, FunctionBody, InlineCode
from scorers.functions.function import Function
from scorers.sandbox.model import CodeCheck, Program
from spans.errors import InvalidSource

CodeChecker = Callable[[InlineCode | BundledCode], Awaitable[CodeCheck]]
"""Has a sandbox worker check code. Raises NoWorker if no such worker runs."""


async def program_of(
    body: FunctionBody, present: Function | None, check: CodeChecker, *,
    uploaded: str | None = None,
) -> Program | None:
    """The program that runs the function's code; None if it has no code yet, or needs none.

    `present` is the stored function: code that did not change is not checked again. `uploaded`
    is the hash of the bundle's bytes; None while the bundle has not been uploaded. Raises
    InvalidSource if the code is not a scorer.
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
            checked.problem or "the source is not a scorer", line=checked.line,
            column=checked.column,
        )
    return body.with_settings(checked.program)
