"""Rules as their authors write them: checked, kept, and listed (`project_score`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal, Protocol
from uuid import UUID

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
from flows.functions import Function, function_id_of, read_version
from flows.projects import ListPage
from scorers import catalog
from spans.errors import BadInput, UserError
from spans.ids import FunctionId, OrgId, ProjectId, RuleId, Xact
from spans.json import Json, JsonObject

ONLINE = "online"


class GlobalScorer(BaseModel):
    """An autoevals scorer, by name; `version` pins it to one release of autoevals."""

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
            raise ValueError(f"autoevals {catalog.installed_version()} is installed")
        return version


class FunctionScorer(BaseModel):
    """A scorer of a user's own, by id; `version` pins it to one of its versions. Whether
    there is such a one, `check_functions` asks the store."""

    model_config = ConfigDict(extra="forbid")
    type: Literal["function"]
    id: str
    version: str | None = None

    @field_validator("id")
    @classmethod
    def _is_id(cls, text: str) -> str:
        function_id = function_id_of(text)
        if function_id is None:
            raise ValueError(f"{text!r} is no function's id; see GET /v1/function")
        return str(function_id)

    @field_validator("version")
    @classmethod
    def _is_version(cls, text: str | None) -> str | None:
        try:
            return None if text is None else str(read_version(text))
        except UserError as error:
            raise ValueError("the `_xact_id` of one of its versions") from error


class SpanScope(BaseModel):
    """Each matching span is scored on its own."""

    model_config = ConfigDict(extra="forbid")
    type: Literal["span"]


class OnlineConfig(BaseModel):
    """`config.online` of a rule; names and meaning as on the wire."""

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
        if isinstance(scope, dict) and scope.get("type") in {"trace", "group"}:
            raise ValueError(f"the scope {scope['type']!r} is not there yet; use span")
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
    """`config` of a project score; only `online` means something to us."""

    model_config = ConfigDict(extra="allow")
    online: OnlineConfig | None = None


class ProjectScoreBody(BaseModel):
    """A project score as it is sent."""

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
    """A project score as it is kept; a rule if its type is "online"."""

    id: RuleId
    project_id: ProjectId
    name: str
    description: str | None
    score_type: str
    categories: Json
    config: JsonObject | None
    position: str | None
    created: datetime


class RuleStore(Protocol):
    """Where rules are kept. Each change makes a new revision of the project's rule set."""

    def create_rule(
        self, project_id: ProjectId, new_id: RuleId, body: ProjectScoreBody, *, replace: bool
    ) -> tuple[ProjectScore, bool]:
        """The rule of this name, and whether it was there before.

        An existing one comes back as it is, or with `replace` becomes what is given.
        """
        ...

    def find_rule(self, org_id: OrgId, rule_id: RuleId) -> ProjectScore | None: ...

    def list_rules(
        self,
        org_id: OrgId,
        page: ListPage,
        project_id: ProjectId | None,
        score_type: str | None = None,
    ) -> list[ProjectScore]: ...

    def change_rule(
        self, rule: ProjectScore, patch: Callable[[ProjectScore], ProjectScoreBody]
    ) -> ProjectScore:
        """What `patch` makes of the rule as it is when nobody else can change it.

        Raises NotFound if it has been deleted meanwhile.
        """
        ...

    def delete_rule(self, rule: ProjectScore) -> None:
        """Remove the rule, and what waits to be scored for it; its scores stay."""
        ...


def read_rule(body: Mapping[str, Json]) -> ProjectScoreBody:
    """The project score that was sent. Raises BadInput with the field and what is wrong."""
    try:
        checked = ProjectScoreBody.model_validate(dict(body))
    except ValidationError as error:
        raise BadInput(_first_problem(error)) from error
    online = checked.config.online if checked.config else None
    if checked.score_type == ONLINE and online is None:
        raise BadInput("a rule needs it", path="config.online")
    ids = [one.id for one in online.scorers if one.type == "function"] if online else []
    if len(ids) > len(set(ids)):
        # Two versions of one function would show their scores under one name: the shadow of
        # a function is what compares them.
        raise BadInput("a rule names a function once", path="config.online.scorers")
    return checked


def patched(rule: ProjectScore, changes: Mapping[str, Json]) -> ProjectScoreBody:
    """The rule with `changes` laid over it, checked as a whole. Raises BadInput."""
    known = {
        "name": rule.name, "description": rule.description, "score_type": rule.score_type,
        "categories": rule.categories, "config": rule.config, "position": rule.position,
    }
    merged = {**known, **changes}
    if isinstance(changes.get("config"), dict) and isinstance(rule.config, dict):
        merged["config"] = {**rule.config, **changes["config"]}  # type: ignore[dict-item]
    return read_rule(merged)


class FunctionFinder(Protocol):
    """What checking a rule's functions needs of stored data."""

    def find(
        self, org_id: OrgId, function_id: FunctionId, version: Xact | None = None
    ) -> Function | None: ...


def check_functions(
    store: FunctionFinder, org_id: OrgId, body: ProjectScoreBody, *,
    only: ProjectId | None = None, present: ProjectScore | None = None,
) -> None:
    """Raises BadInput where the rule names a function that is not there, or that is no
    scorer. A key for one project reaches no functions but its own: `only`.

    What the rule names at `present` is not asked for again: a rule over a function that has
    been deleted can still be paused, or have the function taken out.
    """
    online = body.config.online if body.config else None
    kept = _named(present.config if present else None)
    for index, one in enumerate(online.scorers if online else ()):
        if isinstance(one, GlobalScorer) or (one.id, one.version) in kept:
            continue
        path = f"config.online.scorers.{index}"
        version = None if one.version is None else read_version(one.version)
        function = store.find(org_id, FunctionId(UUID(one.id)), version)
        if function is None or only not in {None, function.project_id}:
            at = "" if version is None else f" of version {version}"
            raise BadInput(
                f"there is no function {one.id}{at}; see GET /v1/function", path=path
            )
        if function.body.queue is None:
            raise BadInput(
                f"the function {function.body.name!r} is no scorer: name one that is code, a "
                "prompt with an llm_classifier parser, or global",
                path=path,
            )


def _named(config: JsonObject | None) -> set[tuple[Json, Json]]:
    """(id, version) of the functions that a stored rule names."""
    online = config.get("online") if config else None
    scorers = online.get("scorers") if isinstance(online, dict) else None
    return {
        (one.get("id"), one.get("version"))
        for one in (scorers if isinstance(scorers, list) else ())
        if isinstance(one, dict)
    }


def stored_config(body: ProjectScoreBody) -> JsonObject | None:
    """The configuration as it is kept and shown: what was given, and nothing else."""
    if body.config is None:
        return None
    return body.config.model_dump(mode="json", exclude_none=True)


def rule_id_of(text: str) -> RuleId | None:
    """The id, or None for a text that can name no rule."""
    try:
        return RuleId(UUID(text))
    except ValueError:
        return None


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    # A discriminated union puts its tag into the path; the author never wrote it.
    path = ".".join(str(part) for part in problem["loc"] if part not in {"global", "function"})
    message = problem["msg"].removeprefix("Value error, ")
    return f"{path}: {message}" if path else message
