"""Checks the bodies of requests with pydantic models, and reports a problem as a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, BeforeValidator, ValidationError

from spans.errors import BadInput
from spans.json import Json

Model = TypeVar("Model", bound=BaseModel)

EMPTY_AS_NONE = BeforeValidator(lambda value: value or None)
"""For `Annotated`: treats "", false, 0, [] and {} as null, because clients send them for fields
that they leave unset."""


def read_model(model: type[Model], body: Mapping[str, Json]) -> Model:
    """The body as an instance of the model.

    Raises BadInput that lists the unknown fields, or names the first wrong field and says what
    it must contain: the field's `description`, or pydantic's message if it has none.
    """
    try:
        return model.model_validate(dict(body))
    except ValidationError as error:
        raise BadInput(_sentence(model, error)) from error


def first_problem(error: ValidationError, *, hidden: frozenset[str] = frozenset()) -> str:
    """The path of the first problem and pydantic's message, as "path: message".

    `hidden` are parts to leave out of the path: the tags of unions, which are not in the body.
    """
    problem = error.errors()[0]
    message = problem["msg"].removeprefix("Value error, ")
    return _at([str(part) for part in problem["loc"] if part not in hidden], message)


def _sentence(model: type[BaseModel], error: ValidationError) -> str:
    problems = error.errors()
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    unknown = [
        str(problem["loc"][0]) for problem in problems
        if problem["type"] == "extra_forbidden" and len(problem["loc"]) == 1
    ]
    if unknown:
        return f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(fields)}"
    path = problems[0]["loc"]
    field = fields.get(str(path[0])) if path else None
    if field is None or field.description is None:
        return first_problem(error)
    # The description is of the whole field, so the path must not go deeper.
    return _at([str(path[0])], field.description)


def _at(path: list[str], message: str) -> str:
    return f"{'.'.join(path)}: {message}" if path else message
