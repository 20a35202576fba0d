"""ValidJSON whose schema cannot make the worker open a URL or a file."""

from __future__ import annotations

import json
from typing import Any

import autoevals
from jsonschema import (  # type: ignore[import-untyped]  # ships no types
    Draft202012Validator,
    ValidationError,
)
from jsonschema.validators import validator_for  # type: ignore[import-untyped]
from referencing import Registry

from spans.json import Json


class ValidJSON:
    """autoevals' ValidJSON with another handling of `$ref`.

    The schema comes from the span's metadata. autoevals calls jsonschema.validate, which opens
    any URL or file that a `$ref` names. So anyone who may log a span could make the worker send
    a request to an address inside its network. Here a reference that leads out of the schema is
    an error of the span.
    """

    def __init__(self) -> None:
        self._syntax = autoevals.ValidJSON()

    def eval(self, *, output: Json, schema: Json = None) -> Any:  # noqa: ANN401 autoevals' Score
        """Score 1 if `output` is JSON and fits the schema, else 0.

        Raises jsonschema's errors if the schema itself is invalid or a `$ref` leads out of it.
        """
        if schema is None:
            return self._syntax.eval(output)
        try:
            value = json.loads(output) if isinstance(output, str) else output
            dialect = validator_for(schema, default=Draft202012Validator)
            dialect.check_schema(schema)
            dialect(schema, registry=Registry()).validate(value)
        except (json.JSONDecodeError, ValidationError):
            return autoevals.Score(name="ValidJSON", score=0)
        return autoevals.Score(name="ValidJSON", score=1)
