"""Re-score jobs as clients ask for them, and how that is checked and stored."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Self

import orjson
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from btql.errors import BtqlError
from btql.parse import parse_filter
from rules.budgets.wire import CapsBody
from rules.rescore.model import SCORERS_MAX, Only, Selection
from rules.wire import FunctionScorer, GlobalScorer, rule_id_of
from scorers.error_classes import outcome_error_classes
from spans.ids import RuleId
from spans.json import Json, JsonObject
from spans.row import ObjectRef
from spans.validation import read_model

IDS_MAX = 10_000
"""Row ids of one request: more rows are named by a filter."""

PROBE_MAX = 1000
"""Rows of a probe: it is there to see what a job would give and cost."""

RATE_MAX = 100_000
"""Rows a second. No installation of one machine reaches it."""

RATE_MIN = 0.001
"""Rows a second: one in a quarter of an hour. Who wants less pauses the job."""

RECORDS_MAX = 10**12
"""More rows than an installation stores."""

_RATE = f"must be a number from {RATE_MIN} to {RATE_MAX}"
_TIME = "must be a time with its zone, as 2026-11-01T00:00:00Z"
_Scorer = Annotated[GlobalScorer | FunctionScorer, Field(discriminator="type")]


class RescoreBody(BaseModel):
    """What a client asks for. Scorers may also be given by their names and slugs alone."""

    model_config = ConfigDict(extra="forbid")
    ids: list[str] | None = Field(
        None, min_length=1, max_length=IDS_MAX,
        description=f"must be a list of 1 to {IDS_MAX} row ids; a filter names more rows",
    )
    filter: str | None = None
    rule_id: str | None = None
    created_from: AwareDatetime | None = Field(None, description=_TIME)
    created_before: AwareDatetime | None = Field(None, description=_TIME)
    scorers: list[str | _Scorer] | None = Field(
        None, min_length=1, max_length=SCORERS_MAX,
        description=f"must be a list of 1 to {SCORERS_MAX} scorers, each the name of one of "
        'autoevals, the slug of a function, {type: "global", name} or '
        '{type: "function", id, version?}',
    )
    only: Only | None = Field(None, description="must be missing, errored or stale")
    error_class: str | None = None
    sampling_rate: float = Field(
        1.0, gt=0, le=1, description="must be a number above 0 and up to 1"
    )
    max_records: int | None = Field(
        None, ge=1, le=RECORDS_MAX,
        description=f"must be a whole number from 1 to {RECORDS_MAX}",
    )
    max_per_second: float | None = Field(None, ge=RATE_MIN, le=RATE_MAX, description=_RATE)
    probe: int | None = Field(
        None, ge=1, le=PROBE_MAX, description=f"must be a whole number from 1 to {PROBE_MAX}"
    )
    budget: CapsBody | None = None
    dry_run: bool = Field(default=False, description="must be true or false")

    @field_validator("filter")
    @classmethod
    def _parses(cls, text: str | None) -> str | None:
        if text is not None:
            try:
                if text.strip():
                    parse_filter(text)
            except BtqlError as error:
                raise ValueError(str(error)) from error
        return text

    @field_validator("error_class")
    @classmethod
    def _is_known(cls, name: str | None) -> str | None:
        if name is not None and name not in outcome_error_classes():
            raise ValueError(
                f"{name!r:.99} is not an error class; use one of "
                f"{', '.join(outcome_error_classes())}"
            )
        return name

    @field_validator("rule_id")
    @classmethod
    def _is_id(cls, text: str | None) -> str | None:
        if text is not None and rule_id_of(text) is None:
            raise ValueError(f"{text!r:.99} is no rule's id; GET /v1/project_score lists them")
        return text

    @model_validator(mode="after")
    def _says_which(self) -> Self:
        if self.ids is None and self.filter is None and self.rule_id is None:
            raise ValueError('say which records: ids, a filter ("" takes all), or rule_id')
        if self.ids is not None and (self.filter or self.rule_id):
            raise ValueError("ids name the records: leave filter and rule_id out")
        if self.scorers is None and self.rule_id is None:
            raise ValueError("say which scorers, or a rule_id, whose scorers are taken")
        begin, end = self.created_from, self.created_before
        if begin is not None and end is not None and begin >= end:
            raise ValueError("created_from must be earlier than created_before")
        if self.error_class is not None and self.only is not Only.ERRORED:
            raise ValueError('error_class needs only: "errored"')
        return self


class ChangeBody(BaseModel):
    """What may be changed of a job: null lifts the limit."""

    model_config = ConfigDict(extra="forbid")
    max_per_second: float | None = Field(
        ge=RATE_MIN, le=RATE_MAX, description=f"{_RATE}, or null for no limit"
    )


def read_rescore(body: Mapping[str, Json]) -> RescoreBody:
    """The request, checked. Raises BadInput with the field and what is wrong."""
    return read_model(RescoreBody, dict(body))


def request_json(body: RescoreBody) -> JsonObject:
    """The request as it is stored and shown: the fields that decide what the job does."""
    return body.model_dump(mode="json", exclude_none=True, exclude={"dry_run"})


def request_hash(body: RescoreBody) -> bytes:
    """Tells two requests apart that came with one Idempotency-Key."""
    sent = body.model_dump(mode="json", exclude_none=True)
    return hashlib.sha256(orjson.dumps(sent, option=orjson.OPT_SORT_KEYS)).digest()


def selection_of(request: Mapping[str, Json], objects: Sequence[ObjectRef]) -> Selection:
    """The selection that a request, from `request_json`, asks for in these objects."""
    body = read_rescore(request)
    return Selection(
        objects=tuple(objects),
        ids=None if body.ids is None else tuple(dict.fromkeys(body.ids)),
        btql_filter=body.filter or "",
        rule_id=_rule_id(body.rule_id),
        created_from=body.created_from,
        created_before=body.created_before,
        only=body.only,
        error_class=body.error_class,
        sampling_rate=body.sampling_rate,
        records_max=body.max_records,
    )


def _rule_id(text: str | None) -> RuleId | None:
    return None if text is None else rule_id_of(text)

