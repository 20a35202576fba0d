"""Which function a caller means, on what, and how its result is given back.

A function is named by its id, by project and slug, by the name of a global scorer, or given
whole: then it is checked as it would be at an upload, run, and kept nowhere.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

from flows.access.principal import Principal
from flows.access.projects import ProjectStore
from flows.functions.functions import FunctionStore, get, program_of
from flows.invocations.client import Calls
from scorers.functions.body import FunctionBody, read_function
from scorers.functions.function import function_id_of, read_version
from scorers.functions.version import FunctionKind, FunctionVersion
from scorers.judge.classifier import read_classifier
from scorers.judge.prompt import FIELDS
from spans.errors import BadInput, NotFound
from spans.ids import FunctionId, ProjectId, Xact, derived_id
from spans.json import Json, JsonObject
from spans.outcome import Verdict, verdict_scores
from spans.scoring import Score

UNNAMED = "inline"
"""The name of a function that was given whole and brings none."""

DIGEST_BITS_LEFT_OUT = 128 - 63
"""A version is a bigint, without its sign."""

WAYS = (
    "a function is named by function_id, by project_name and slug, by global_function, or "
    "given as function, as inline_context and code, or as inline_function"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Functions:
    """Where functions are found, for one caller."""

    principal: Principal
    projects: ProjectStore
    store: FunctionStore
    calls: Calls

    async def meant(self, asked: JsonObject) -> FunctionVersion:
        """The function that a request means. Raises BadInput, NotFound, InvalidSource; for one
        that is given whole Forbidden, and what `Calls.check` does."""
        if (function_id := asked.get("function_id")) is not None:
            return await asyncio.to_thread(self._by_id, function_id, asked.get("version"))
        if (slug := asked.get("slug")) is not None:
            return await asyncio.to_thread(self._by_slug, asked, slug)
        body = given_whole(asked)
        if body.kind is not FunctionKind.GLOBAL:
            # Code and prompts are an admin's to make; other keys run what has been made.
            self.principal.require()
        return await self._unsaved(body)

    def _by_id(self, value: Json, version: Json) -> FunctionVersion:
        function_id = function_id_of(value) if isinstance(value, str) else None
        if function_id is None:
            raise NotFound("no such function")
        return get(self.store, self.principal, function_id, _version(version)).as_version()

    def _by_slug(self, asked: JsonObject, slug: Json) -> FunctionVersion:
        name = asked.get("project_name")
        if not isinstance(name, str) or not isinstance(slug, str):
            raise BadInput("a slug is one of a project: send project_name too", path="slug")
        principal = self.principal
        project = self.projects.project_named(principal.org_id, name)
        if project is None or principal.project_id not in {None, project.id}:
            raise NotFound(f"there is no project {name!r}")
        version = _version(asked.get("version"))
        function = self.store.named(principal.org_id, project.id, slug, version)
        if function is None:
            at = "" if version is None else f" at version {version}"
            raise NotFound(f"the project {name!r} has no function {slug!r}{at}")
        return function.as_version()

    async def _unsaved(self, body: FunctionBody) -> FunctionVersion:
        org_id = self.principal.org_id
        program = await program_of(body, None, lambda source: self.calls.check(org_id, source))
        owner = self.principal.project_id or ProjectId(org_id)
        function_id, version = identity(owner, body)
        is_classifier = body.kind is FunctionKind.CLASSIFIER
        return FunctionVersion(
            id=function_id, project_id=owner, version=version,
            name=body.name, slug=body.slug, kind=body.kind, program=program,
            classifier=read_classifier(body.prompt_data or {}) if is_classifier else None,
            global_name=body.global_name if body.kind is FunctionKind.GLOBAL else None,
        )


def identity(owner: ProjectId, body: FunctionBody) -> tuple[FunctionId, Xact]:
    """What a function that is kept nowhere is known by to those who run it.

    All of an owner's share an id, and with it what they may spend of models in a day. Each
    text is a version: tried again it finds its sandbox warm, and no other's.
    """
    text = json.dumps(body.model_dump(mode="json"), sort_keys=True)
    digest = derived_id(str(owner), text).int
    return FunctionId(derived_id(str(owner), UNNAMED)), Xact(digest >> DIGEST_BITS_LEFT_OUT)


def given_whole(asked: JsonObject) -> FunctionBody:
    """The function that a request brings. Raises BadInput, InvalidSource."""
    name = asked.get("name")
    body: JsonObject = {"function_type": asked.get("function_type")}
    if isinstance(function := asked.get("function"), dict):
        body = function
        name = function.get("name")
    elif (global_name := asked.get("global_function")) is not None:
        name = global_name
        body["function_data"] = {"type": "global", "name": global_name}
    elif (context := asked.get("inline_context")) is not None:
        inline: Json = {
            "type": "inline", "runtime_context": context, "code": asked.get("code"),
        }
        body["function_data"] = {"type": "code", "data": inline}
    elif (data := asked.get("inline_function")) is not None:
        body |= {"function_data": data, "prompt_data": asked.get("inline_prompt")}
    elif (prompt := asked.get("inline_prompt")) is not None:
        body |= {"function_data": {"type": "prompt"}, "prompt_data": prompt}
    else:
        raise BadInput(WAYS)
    return read_function({**body, "name": name or UNNAMED, "slug": name or UNNAMED})


def read_record(asked: JsonObject) -> JsonObject:
    """The arguments by name: those in `input`, and beside it what the request itself says of
    expected, metadata and tags. Raises BadInput."""
    given = asked.get("input")
    if not isinstance(given, dict):
        raise BadInput(f"a scorer's arguments: an object of {', '.join(FIELDS)}", path="input")
    beside: JsonObject = {
        name: asked[name] for name in ("expected", "metadata", "tags") if name in asked
    }
    both: JsonObject = {**beside, **given}
    return {name: both[name] for name in both if name in FIELDS and both[name] is not None}


def result_of(verdict: Verdict) -> Json:
    """What the function gave: one score as an object, several as a list, null if it declined.

    Not for a verdict that is a failure.
    """
    scores = verdict_scores(verdict)
    if all(score.value is None for score in scores):
        return None
    shown: list[Json] = [shown_score(score) for score in scores]
    return shown[0] if len(shown) == 1 else shown


def shown_score(score: Score) -> JsonObject:
    """A score, as scorers themselves write one."""
    shown: JsonObject = {"name": score.name, "score": score.value}
    return {**shown, "metadata": score.metadata} if score.metadata else shown


def _version(value: Json) -> Xact | None:
    return None if value in {None, ""} else read_version(value)
