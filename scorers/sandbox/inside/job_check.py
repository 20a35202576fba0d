"""Finds the handler in a Python scorer's source, and its parameters, without executing it.

It runs in a jail all the same, because source can crash a parser or exhaust its memory.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from typing import Any, TypeAlias

from scorers.sandbox.inside import arguments

HANDLER = "handler"
FILE = "scorer.py"

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class NotAScorer(Exception):
    """The source is not a valid scorer. Line and column count from 1; None if unknown."""

    def __init__(
        self, problem: str, line: int | None = None, column: int | None = None
    ) -> None:
        super().__init__(problem)
        self.answer = {"problem": problem, "line": line, "column": column}


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """For {code}, answer {code, parameters} or {problem, line, column}.

    The code in the answer defines a `handler`. `parameters` are the names that it takes; null
    means all.
    """
    code: str = request["code"]
    try:
        tree = _parsed(code)
        name, function = _handler(tree)
        parameters = None if function is None else _parameters(function)
    except NotAScorer as refused:
        return refused.answer
    if parameters is None:
        parameters = arguments.unless_declared(code)
    if name != HANDLER:
        code = f"{code}\n{HANDLER} = {name}\n"
    return {"code": code, "parameters": parameters}


def _parsed(code: str) -> ast.Module:
    """The syntax tree. The compiler runs too: it finds errors that the parser does not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(code, FILE)
            compile(tree, FILE, "exec")
    except SyntaxError as error:
        message = f"{type(error).__name__}: {error.msg}"
        raise NotAScorer(message, error.lineno, error.offset) from None
    except (RecursionError, MemoryError):
        raise NotAScorer("The source is nested too deeply to be compiled.") from None
    except (ValueError, OverflowError) as error:
        raise NotAScorer(f"The source cannot be compiled: {error}.") from None
    return tree


def _handler(tree: ast.Module) -> tuple[str, Function | None]:
    """The handler's name, and its definition if it is certain which one counts."""
    if HANDLER in _names(tree.body):
        last = _last_named_handler(tree.body)
        return HANDLER, last
    functions = [each for each in tree.body if isinstance(each, FUNCTIONS)]
    if not functions:
        raise NotAScorer(
            "There is no handler: define a function, "
            "`def handler(input, output, expected): ...`"
        )
    return functions[-1].name, functions[-1]


def _last_named_handler(body: list[ast.stmt]) -> Function | None:
    """The last statement that binds `handler`, if it defines a plain function."""
    last = [each for each in body if HANDLER in _names([each])][-1]
    return last if isinstance(last, FUNCTIONS) else None


def _names(body: list[ast.stmt]) -> Iterator[str]:
    """The names that these statements bind, also within `if`, `try` and `with`."""
    for statement in body:
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield statement.name
            case ast.Import() | ast.ImportFrom():
                yield from (alias.asname or alias.name for alias in statement.names)
            case ast.Assign() | ast.AnnAssign():
                yield from (
                    each.id for each in ast.walk(statement)
                    if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
                )
            case ast.If() | ast.Try() | ast.With():
                inner = (each for each in ast.iter_child_nodes(statement))
                yield from _names([each for each in inner if isinstance(each, ast.stmt)])
                for clause in getattr(statement, "handlers", ()):
                    yield from _names(clause.body)


def _parameters(function: Function) -> list[str] | None:
    given = function.args
    without_default = len(given.posonlyargs) + len(given.args) - len(given.defaults)
    if given.posonlyargs and without_default > 0:
        first = given.posonlyargs[0]
        raise NotAScorer(
            f"{function.name}() takes {first.arg!r} by position only, but arguments are passed "
            "by name: remove the `/` from its parameters.",
            first.lineno, first.col_offset + 1,
        )
    # A decorator may change which arguments are taken.
    if given.kwarg or function.decorator_list:
        return None
    return [each.arg for each in (*given.args, *given.kwonlyargs)]
