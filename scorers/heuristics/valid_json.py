"""ValidJSON with a schema, without letting the schema reach for the network."""

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
    """autoevals' scorer of this name; only the handling of `$ref` differs.

    The schema comes from the span's metadata. autoevals calls jsonschema.validate, which opens
    whatever URL or file a `$ref` names: whoever may log a span could make the worker ask an
    address inside the network. Here a reference out of the schema is an error of the span.
    """

    def __init__(self) -> None:
        self._syntax = autoevals.ValidJSON()

    def eval(self, *, output: Json, schema: Json = None) -> Any:  # noqa: ANN401 autoevals' Score
        """1 if `output` is JSON and fits the schema, else 0. Raises what jsonschema raises."""
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
