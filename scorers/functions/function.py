"""A user's function at one version: what a write contains, and how the API shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from scorers.functions.body import FunctionBody, read_function
from scorers.functions.version import FunctionKind, FunctionVersion
from scorers.judge.classifier import Classifier, read_classifier
from scorers.sandbox.model import Program
from spans.errors import BadInput, NotFound
from spans.ids import (
    LARGEST_XACT,
    FunctionId,
    OrgId,
    ProjectId,
    Xact,
    parse_uuid,
    read_xact,
)
from spans.json import Json, JsonObject
from spans.validation import EMPTY_AS_NONE, read_model

FUNCTIONS_MAX = 500
"""Most functions of one request. A pushed file holds a handful."""

NOT_UPLOADED = "the bundle that holds its code has not been uploaded: push it again"


class IfExists(StrEnum):
    """What a write does if its project already has a function with that slug."""

    ERROR = "error"
    REPLACE = "replace"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """A version that runs beside the one in force; its scores are stored but not shown.

    `rate` is the share of traces that it runs on, 0..1.
    """

    version: Xact
    rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A function at one version. `in_force` is the version that rules follow.

    `program` is set if the function is code; it is None until its bundle has been uploaded.
    """

    id: FunctionId
    org_id: OrgId
    project_id: ProjectId
    version: Xact
    in_force: Xact
    created: datetime
    body: FunctionBody
    program: Program | None
    shadow: Shadow | None

    def as_version(self) -> FunctionVersion:
        """The same version in the form in which workers run it."""
        body, problem = self.body, None
        classifier: Classifier | None = None
        if body.kind is FunctionKind.CLASSIFIER:
            try:
                classifier = read_classifier(body.prompt_data or {})
            except BadInput as error:
                problem = str(error)
        if body.kind is FunctionKind.CODE and self.program is None:
            problem = NOT_UPLOADED
        return FunctionVersion(
            id=self.id, project_id=self.project_id, version=self.version, name=body.name,
            slug=body.slug, kind=body.kind, program=self.program, classifier=classifier,
            global_name=body.global_name if body.kind is FunctionKind.GLOBAL else None,
            problem=problem,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionFilter:
    """Which functions to list. None matches any; without a `version`, the one in force."""

    project_id: ProjectId | None = None
    slug: str | None = None
    version: Xact | None = None
    only_prompts: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A function that a client wants to write. Project and slug say which function it is.

    With a `shadow_rate` the new version does not come into force: it runs as a shadow on that
    share of the traces, 0..1.
    """

    project_id: ProjectId
    body: FunctionBody
    if_exists: IfExists
    shadow_rate: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionWrite:
    """A definition whose code has been checked; `program` is what the check made of it.

    If the project has no such function yet, the new one gets the id `new_id`.
    """

    definition: Definition
    new_id: FunctionId
    program: Program | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The function after a write, and the version in force before it; None if it is new."""

    function: Function
    before: Function | None

    @property
    def existed(self) -> bool:
        """Whether the project already had a function with that slug."""
        return self.before is not None


Rate = Annotated[float, Field(strict=True, ge=0, le=1)]
"""A share of the traces, 0..1."""


class Rollout(BaseModel):
    """The field `rollout` of a written function: the share of traces for its shadow."""

    model_config = ConfigDict(extra="forbid")
    shadow: Rate


class DefinitionBody(BaseModel):
    """The fields of a written function that are not stored with it (see FunctionBody)."""

    if_exists: Annotated[IfExists | None, EMPTY_AS_NONE] = Field(
        None, description=f"one of {', '.join(IfExists)}"
    )
    rollout: Rollout | None = Field(
        None, description='{"shadow": the share of traces, 0 to 1}'
    )


def read_definition(item: Json) -> Definition:
    """One function of a request that pushes several.

    Raises BadInput, InvalidSource for its code, and NotFound if `project_id` is not a UUID.
    """
    if not isinstance(item, dict):
        raise BadInput("a function must be an object")
    said = read_model(DefinitionBody, item)
    return Definition(
        project_id=read_project_id(item.get("project_id")), body=read_function(item),
        if_exists=said.if_exists or IfExists.ERROR, shadow_rate=rate_of(said.rollout),
    )


def read_project_id(value: Json) -> ProjectId:
    """The project's id. Raises BadInput if it is no string, and NotFound if it is no UUID."""
    if not isinstance(value, str):
        raise BadInput("must be the id of a project", path="project_id")
    if (project_id := parse_uuid(value)) is None:
        raise NotFound("no such project")
    return ProjectId(project_id)


def read_rollout(body: Mapping[str, Json]) -> float | None:
    """The rate of `rollout: {shadow: rate}`; None if the version is to come into force at once.

    Raises BadInput.
    """
    return rate_of(read_model(DefinitionBody, {"rollout": body.get("rollout")}).rollout)


def rate_of(rollout: Rollout | None) -> float | None:
    """The share of the traces that the shadow runs on; None if there is to be no shadow."""
    return None if rollout is None else rollout.shadow


def function_id_of(text: str) -> FunctionId | None:
    """The function's id; None if the text is not a UUID."""
    found = parse_uuid(text)
    return None if found is None else FunctionId(found)


def read_version(value: Json, path: str = "version") -> Xact:
    """A version, given as an `_xact_id`: a number, its digits, or the 16 hex digits that
    clients show. Raises BadInput."""
    version = None
    if isinstance(value, str):
        version = read_xact(value)
    elif type(value) is int and 0 <= value <= LARGEST_XACT:
        version = Xact(value)
    if version is None:
        raise BadInput("must be the `_xact_id` of a version", path=path)
    return version


def _readable_version(value: Json) -> Xact:
    try:
        return read_version(value)
    except BadInput as error:
        raise ValueError(str(error)) from error   # pydantic adds the field's name


Version = Annotated[Xact, BeforeValidator(_readable_version)]
"""A version as a field of a request's body."""

def function_json(function: Function) -> JsonObject:
    """A function as the API answers it."""
    body, shadow = function.body, function.shadow
    return {
        "id": str(function.id),
        "_xact_id": str(function.version),
        "project_id": str(function.project_id),
        "log_id": "p",
        "org_id": str(function.org_id),
        "created": function.created.isoformat(),
        **body.model_dump(mode="json"),
        "problem": function.as_version().problem,
        "rollout": None if shadow is None else {
            "version": str(shadow.version), "shadow": shadow.rate,
        },
    }


def prompt_json(function: Function) -> JsonObject:
    """A function as the API answers clients that ask for prompts: without five newer fields."""
    told = function_json(function)
    return {
        name: told[name] for name in told
        if name not in {"function_data", "function_schema", "origin", "problem", "rollout"}
    }
