"""Learns what the models of an endpoint refuse, so that it is not sent to them again."""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from collections.abc import Collection
from typing import TypeVar

from scorers.judge.problems import WORDS_MAX, Cause, Problem
from spans.json import Json, JsonObject

_K = TypeVar("_K")
_V = TypeVar("_V")

logger = logging.getLogger(__name__)

MODELS_MAX = 256
"""Models of one endpoint whose refusals are remembered: those that refused last."""

TRIES_MAX = 6
"""Changes of one call. A model of OpenAI's that refuses most of them refuses five."""

ESSENTIAL = frozenset({"model", "messages", "input", "instructions", "tools"})
"""What a call is about. It is never left out."""

_OTHER_NAME = {
    "max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens",
}
_ANY_TOOL = "required"
"""The form of `tool_choice` that forces a call, but does not name the tool."""


class Dialect:
    """What the models of one endpoint have refused by name. Threads may share one.

    `endpoint` names the endpoint in the log. With `may_drop`, parameters are renamed or left
    out, as their refusals ask for. Without it they are only renamed, so that a limit that the
    caller sets is always obeyed.
    """

    def __init__(self, endpoint: str, *, may_drop: bool = True) -> None:
        self._endpoint = endpoint
        self._may_drop = may_drop
        self._refused: OrderedDict[tuple[str, str], frozenset[str]] = OrderedDict()
        self._apis: OrderedDict[str, str] = OrderedDict()

    def api_of(self, model: str) -> str | None:
        """The path at which the model has turned out to answer; None if it is not known."""
        return self._apis.get(model)

    def answers_at(self, model: str, path: str) -> None:
        """Remember the path at which the model answers."""
        logger.warning("judge: %s answers for model %s at %s", self._endpoint, model, path)
        _remember(self._apis, model, path)

    def adapted(
        self, path: str, body: JsonObject, *, keeps: Collection[str] = ()
    ) -> JsonObject:
        """The request, without what its model has refused before.

        Parameters that `keeps` names may be renamed, but are never left out.
        """
        refused = self._of(path, body)
        if not refused:
            return body
        made: JsonObject = {}
        for name, value in body.items():
            form = _form(name, value)
            if form not in refused:
                made[name] = value
            elif (other := _OTHER_NAME.get(name)) and other not in refused:
                made.setdefault(other, value)
            elif not self._may_drop or name in keeps:
                made[name] = value
            elif form != name and name not in refused:
                made[name] = _ANY_TOOL
        return made

    def learns(
        self, path: str, body: JsonObject, problem: Problem, *, keeps: Collection[str] = ()
    ) -> bool:
        """Whether the refusal of `body` gives a reason to try again, differently.

        `body` is the request as it was sent.
        """
        named = _named(body, problem)
        if not named:
            return False
        refused = self._of(path, body)
        if fresh := {_form(name, body[name]) for name in named} - refused:
            path_and_model = _key(path, body)
            _remember(self._refused, path_and_model, refused | fresh)
            logger.warning(
                "judge: %s refuses %s for model %s: from now on it is left out, or sent in "
                "another form", self._endpoint, ", ".join(sorted(fresh)), path_and_model[1],
            )
        # Nothing fresh: a call that was made at the same time has been refused before this one.
        return self.adapted(path, body, keeps=keeps) != body

    def _of(self, path: str, body: JsonObject) -> frozenset[str]:
        return self._refused.get(_key(path, body), frozenset())


def _remember(known: OrderedDict[_K, _V], key: _K, value: _V) -> None:
    known.pop(key, None)   # to stand last; a thread that drops the first one may come between
    known[key] = value
    while len(known) > MODELS_MAX:
        known.popitem(last=False)


def _key(path: str, body: JsonObject) -> tuple[str, str]:
    return path, str(body.get("model"))


def _form(name: str, value: Json) -> str:
    """The parameter's name, or for a `tool_choice` that names the tool, a name of that form."""
    return f"{name} by name" if name == "tool_choice" and isinstance(value, dict) else name


def _named(body: JsonObject, problem: Problem) -> list[str]:
    """The parameters of the request that the server refuses by their names."""
    if problem.cause is not Cause.UNSUPPORTED:
        return []
    offered = [name for name in body if name not in ESSENTIAL]
    first = (problem.parameter or "").split(".")[0]
    if first in offered:
        return [first]
    words = problem.message[:WORDS_MAX]
    return [name for name in offered if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", words)]
