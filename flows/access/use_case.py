"""Marks the use cases: checks the caller's role, and repeats a call that lost to another one.

    class Rules:
        @use_case(KeyRole.READ)
        def list(self, principal: Principal, page: ListPage) -> list[ProjectScore]: ...

A use case is a method that takes the Principal first. Entry points (HTTP, commands) only call
it. The role is checked here. A call whose transaction PostgreSQL rolled back, because of a
concurrent one, is repeated here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from flows.access.principal import KeyRole, Principal
from spans.errors import Contended

TRIES = 3
"""Calls of a use case in all, if its transaction keeps losing to concurrent ones. Each time it
loses, another one has committed, so more tries are hardly ever needed."""

Method = TypeVar("Method", bound=Callable[..., Any])


def use_case(*roles: KeyRole) -> Callable[[Method], Method]:
    """Makes a method a use case for callers with one of these roles, and for administrators.

    The call raises Forbidden for callers with other roles. If the method raises Contended it is
    called again, TRIES times in all, so it must be safe to repeat until it commits. Works for
    plain and for `async` methods, whose first argument after `self` is the Principal.
    """

    def decorate(method: Method) -> Method:
        @wraps(method)
        def call(self: object, principal: Principal, *args: Any, **options: Any) -> Any:  # noqa: ANN401 any method's
            principal.require(*roles)
            for _ in range(TRIES - 1):
                try:
                    return method(self, principal, *args, **options)
                except Contended:
                    continue
            return method(self, principal, *args, **options)

        @wraps(method)
        async def call_async(
            self: object, principal: Principal, *args: Any, **options: Any  # noqa: ANN401 any method's
        ) -> Any:  # noqa: ANN401 any method's
            principal.require(*roles)
            for _ in range(TRIES - 1):
                try:
                    return await method(self, principal, *args, **options)
                except Contended:
                    continue
            return await method(self, principal, *args, **options)

        chosen: Any = call_async if inspect.iscoroutinefunction(method) else call
        chosen.roles = roles
        return cast("Method", chosen)

    return decorate


def roles_of(method: Callable[..., Any]) -> tuple[KeyRole, ...]:
    """The roles that may call a use case, besides administrators.

    With these an entry point can refuse a key before it reads the request's body.
    """
    roles: tuple[KeyRole, ...] = method.roles  # type: ignore[attr-defined]  # set by use_case
    return roles
