"""Finds the handler in a Python scorer's source, and what it takes. Executes nothing of it.

Runs in a jail of its own all the same: parsers have been crashed and starved by what they read.
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
    """What its author must change, and where: line and column from 1, or None."""

    def __init__(
        self, problem: str, line: int | None = None, column: int | None = None
    ) -> None:
        super().__init__(problem)
        self.answer = {"problem": problem, "line": line, "column": column}


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Of {code}: {code, parameters}, with a `handler` in the code; or {problem, line, column}.

    `parameters` are the names that the handler takes; null: whatever there is.
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
    """Its tree. The compiler is asked too: it knows errors that the parser does not."""
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
    """The name of what is called, and its definition where that is beyond doubt."""
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
    """The statement that binds `handler` last, if that is a plain function."""
    last = [each for each in body if HANDLER in _names([each])][-1]
    return last if isinstance(last, FUNCTIONS) else None


def _names(body: list[ast.stmt]) -> Iterator[str]:
    """Names that these statements bind in the module, those of `if`, `try` and `with` too."""
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
            f"{function.name}() takes {first.arg!r} by position only, and arguments come by "
            "name: remove the `/` from its parameters.",
            first.lineno, first.col_offset + 1,
        )
    # A decorator may change what is taken.
    if given.kwarg or function.decorator_list:
        return None
    return [each.arg for each in (*given.args, *given.kwonlyargs)]
