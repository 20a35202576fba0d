"""Rules as clients send them and get them back (`project_score`), and how they are checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
)

from btql.errors import BtqlError
from btql.parse import parse_filter
from scorers import catalog
from scorers.functions.function import function_id_of, read_version
from spans.errors import BadInput, UserError
from spans.ids import ProjectId, RuleId, parse_uuid
from spans.json import Json, JsonObject
from spans.validation import first_problem

ONLINE = "online"

UNION_TAGS = frozenset({"global", "function"})
"""Parts that pydantic adds to the path of an error. The client never wrote them."""


class GlobalScorer(BaseModel):
    """An autoevals scorer by name. `version` pins it to a release, which must be installed."""

    model_config = ConfigDict(extra="forbid")
    type: Literal["global"]
    name: str
    function_type: Literal["scorer"] | None = None
    version: str | None = None

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        try:
            return catalog.resolve(name).name
        except UserError as error:
            raise ValueError(str(error)) from error

    @field_validator("version")
    @classmethod
    def _is_installed(cls, version: str | None) -> str | None:
        if version not in {None, catalog.installed_version()}:
            installed = catalog.installed_version()
            raise ValueError(f"must be {installed}, the version of autoevals that is installed")
        return version


class FunctionScorer(BaseModel):
    """A user's own scorer by id. `version` pins it to one of its versions.

    Whether there is such a function and version is checked later, in the store.
    """

    model_config = ConfigDict(extra="forbid")
    type: Literal["function"]
    id: str
    version: str | None = None

    @field_validator("id")
    @classmethod
    def _is_id(cls, text: str) -> str:
        function_id = function_id_of(text)
        if function_id is None:
            raise ValueError(f"{text!r} is no function's id; GET /v1/function lists them")
        return str(function_id)

    @field_validator("version")
    @classmethod
    def _is_version(cls, text: str | None) -> str | None:
        try:
            return None if text is None else str(read_version(text))
        except UserError as error:
            raise ValueError("must be the `_xact_id` of a version of the function") from error


class SpanScope(BaseModel):
    """Each matching span is scored on its own."""

    model_config = ConfigDict(extra="forbid")
    type: Literal["span"]


class OnlineConfig(BaseModel):
    """`config.online` of a rule."""

    model_config = ConfigDict(extra="forbid")
    sampling_rate: float = Field(ge=0, le=1)
    scorers: list[Annotated[GlobalScorer | FunctionScorer, Field(discriminator="type")]] = (
        Field(min_length=1, max_length=64)
    )
    btql_filter: str | None = None
    apply_to_root_span: bool | None = None
    apply_to_span_names: list[str] | None = Field(None, max_length=256)
    skip_logging: bool | None = None
    scope: SpanScope | None = None
    status: Literal["active", "paused"] | None = None

    @field_validator("scope", mode="before")
    @classmethod
    def _is_span(cls, scope: Json) -> Json:
        if isinstance(scope, dict) and scope.get("type") in ("trace", "group"):
            raise ValueError(f"the scope {scope['type']!r} is not supported yet; use span")
        return scope

    @field_validator("btql_filter")
    @classmethod
    def _parses(cls, text: str | None) -> str | None:
        if text is not None:
            try:
                parse_filter(text)
            except BtqlError as error:
                raise ValueError(str(error)) from error
        return text


class ScoreConfig(BaseModel):
    """`config` of a project score. Other keys than `online` are kept and ignored."""

    model_config = ConfigDict(extra="allow")
    online: OnlineConfig | None = None


class ProjectScoreBody(BaseModel):
    """A project score as a client sends it."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1, max_length=256)
    description: str | None = None
    score_type: Literal[
        "slider", "categorical", "weighted", "minimum", "maximum", "online", "free-form"
    ]
    categories: list[JsonValue] | dict[str, JsonValue] | None = None
    config: ScoreConfig | None = None
    position: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectScore:
    """A stored project score. It is a rule if its type is "online"."""

    id: RuleId
    project_id: ProjectId
    name: str
    description: str | None
    score_type: str
    categories: Json
    config: JsonObject | None
    position: str | None
    created: datetime


def read_rule(body: Mapping[str, Json]) -> ProjectScoreBody:
    """The project score in a request. Raises BadInput with the field and what is wrong."""
    try:
        checked = ProjectScoreBody.model_validate(dict(body))
    except ValidationError as error:
        raise BadInput(first_problem(error, hidden=UNION_TAGS)) from error
    online = checked.config.online if checked.config else None
    if checked.score_type == ONLINE and online is None:
        raise BadInput("missing; a rule needs it", path="config.online")
    ids = [one.id for one in online.scorers if one.type == "function"] if online else []
    if len(ids) > len(set(ids)):
        # Two versions of one function would show their scores under one name. A shadow is the
        # way to compare two versions.
        raise BadInput("a rule may name a function only once", path="config.online.scorers")
    return checked


def patch_rule(rule: ProjectScore, changes: Mapping[str, Json]) -> ProjectScoreBody:
    """The rule with `changes` applied, checked as a whole. Raises BadInput."""
    known = {
        "name": rule.name, "description": rule.description, "score_type": rule.score_type,
        "categories": rule.categories, "config": rule.config, "position": rule.position,
    }
    merged = {**known, **changes}
    if isinstance(changes.get("config"), dict) and isinstance(rule.config, dict):
        merged["config"] = {**rule.config, **changes["config"]}  # type: ignore[dict-item]
    return read_rule(merged)


def stored_config(body: ProjectScoreBody) -> JsonObject | None:
    """The configuration as it is stored and shown: only the fields that were given."""
    if body.config is None:
        return None
    return body.config.model_dump(mode="json", exclude_none=True)


def rule_id_of(text: str) -> RuleId | None:
    """The id in `text`, or None if it is not a rule's id."""
    found = parse_uuid(text)
    return None if found is None else RuleId(found)
