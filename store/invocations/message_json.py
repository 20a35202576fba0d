"""Converts requests and answers of invocations to the stored JSON and back."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, TypeAdapter

from flows.invocations.messages import Answer, Request
from spans.json import JsonObject

_REQUEST: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="kind")])
_ANSWER: TypeAdapter[Answer] = TypeAdapter(Annotated[Answer, Field(discriminator="kind")])


def request_text(request: Request) -> str:
    """The request as JSON."""
    return _REQUEST.dump_json(request).decode()


def read_request(stored: JsonObject) -> Request:
    """The request that `request_text` wrote."""
    return _REQUEST.validate_python(stored)


def answer_text(answer: Answer) -> str:
    """The answer as JSON."""
    return _ANSWER.dump_json(answer).decode()


def read_answer(stored: JsonObject) -> Answer:
    """The answer that `answer_text` wrote."""
    return _ANSWER.validate_python(stored)
