"""What all use cases share: which keys may call one, and what happens where two of them meet.

    class Rules:
        @use_case(KeyRole.READ)
        def list(self, principal: Principal, page: ListPage) -> list[ProjectScore]: ...

A use case is a method that takes the Principal first. Entry points (HTTP, commands, pages) call
it and add nothing: the role is checked here, and a transaction that PostgreSQL undid because
another one met it is done again here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from flows.access.principal import KeyRole, Principal
from spans.errors import Contended

TRIES = 3
"""How often a use case is tried that other transactions undo: each loss means that one won."""

Method = TypeVar("Method", bound=Callable[..., Any])


def use_case(*roles: KeyRole) -> Callable[[Method], Method]:
    """Opens a method to keys of these roles, and to those of administrators.

    The method must be safe to repeat until it commits: it is called again, TRIES times in all,
    while it raises Contended. Works for plain and for `async` methods. The first argument after
    `self` is the Principal; for a key of another role the call raises Forbidden.
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
    """The roles that a use case is open to, beside the administrator's.

    For an entry point that refuses a key before it reads the request's body.
    """
    roles: tuple[KeyRole, ...] = method.roles  # type: ignore[attr-defined]  # set by use_case
    return roles
