"""Reads and checks a function as its author sent it, and gives the program to run.

Users' code is not inspected here. The jail inspects it, and returns a Program.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from scorers import catalog
from scorers.functions.queue import queue_of_function
from scorers.functions.version import FunctionKind
from scorers.judge.classifier import read_classifier
from scorers.sandbox.model import Isolation, Limits, Program, Runtime
from spans.errors import BadInput, InvalidSource
from spans.ids import parse_uuid
from spans.json import Json, JsonObject
from spans.validation import first_problem

SCORER = "scorer"
NAME_CHARS_MAX = 256
SCORER_NAME_CHARS_MAX = 100
"""A scorer's name becomes the name of its score, which has at most 100 characters."""

CODE_BYTES_MAX = 2**20
"""The most bytes of inline source. Larger code contains libraries: push it as a bundle."""

DEPTH_MAX, NODES_MAX = 64, 20_000
"""Limits of a function's JSON. A real schema or prompt has hundreds of values, ten deep."""

SETTING_MAX = 2**53
"""The largest whole number that every JSON reader holds exactly. Operators set lower limits."""

DEFAULTS = Limits()
_PROGRAM = TypeAdapter(Program)


class FunctionBody(BaseModel):
    """A function's contents: the fields of the request that make up a version.

    Other fields are ignored, because older and newer clients send some that are not used here.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)
    name: str = Field(min_length=1, max_length=NAME_CHARS_MAX)
    slug: str = Field(min_length=1, max_length=NAME_CHARS_MAX)
    description: str | None = None
    function_type: str | None = Field(None, max_length=64)
    function_data: dict[str, JsonValue]
    prompt_data: dict[str, JsonValue] | None = None
    function_schema: dict[str, JsonValue] | None = None
    tags: list[str] | None = None
    metadata: dict[str, JsonValue] | None = None
    origin: dict[str, JsonValue] | None = None

    @property
    def kind(self) -> FunctionKind:
        """What the function consists of. Functions of kind OTHER are stored but not run."""
        data = self.function_data
        if data.get("type") == "prompt":
            if _object(_object(self.prompt_data).get("parser")):
                is_scorer = self.function_type in {None, SCORER}
                return FunctionKind.CLASSIFIER if is_scorer else FunctionKind.OTHER
            return FunctionKind.PROMPT
        if self.function_type not in {None, SCORER}:
            return FunctionKind.OTHER
        if data.get("type") == "global":
            # A tuple: a set would hash the value, which may be a list.
            is_scorer = data.get("function_type") in (None, SCORER)
            return FunctionKind.GLOBAL if is_scorer else FunctionKind.OTHER
        code = _object(data.get("data"))
        if data.get("type") == "code" and (
            code.get("type") == "inline"
            or (code.get("type") == "bundle" and "index" in _object(code.get("location")))
        ):
            return FunctionKind.CODE
        return FunctionKind.OTHER

    @property
    def queue(self) -> str | None:
        """The queue in which the function runs, or None if it is not a scorer."""
        return queue_of_function(self.kind, self.global_name)

    @property
    def global_name(self) -> str:
        """The autoevals scorer that a function of kind GLOBAL stands for."""
        return str(self.function_data.get("name"))

    @property
    def source(self) -> InlineCode | None:
        """The inline source, or None if the function is not inline code."""
        code = _object(self.function_data.get("data"))
        if self.kind is not FunctionKind.CODE or code.get("type") != "inline":
            return None
        return InlineCode(runtime=_runtime(code), code=str(code["code"]))

    @property
    def bundle_id(self) -> UUID | None:
        """The id of the bundle that contains the code, or None if the code is in no bundle."""
        code = _object(self.function_data.get("data"))
        if self.kind is not FunctionKind.CODE or code.get("type") != "bundle":
            return None
        return parse_uuid(str(code.get("bundle_id")))

    def bundled(self, sha256: str) -> BundledCode:
        """The code's place in an uploaded bundle. `sha256` is of the bundle's bytes, in hex."""
        code = _object(self.function_data.get("data"))
        return BundledCode(
            runtime=_runtime(code),
            runtime_version=str(_object(code.get("runtime_context")).get("version")),
            bundle=sha256, index=int(str(_object(code.get("location")).get("index"))),
        )

    def bundled_program(self, sha256: str) -> Program:
        """The program that runs the code, made without looking into the bundle."""
        at = self.bundled(sha256)
        return self.with_settings(
            Program(
                runtime=at.runtime, runtime_version=at.runtime_version, bundle=at.bundle,
                index=at.index,
            )
        )

    def with_settings(self, program: Program) -> Program:
        """The program with its author's settings (`metadata.sandbox`)."""
        settings = SandboxSettings.model_validate(_object(self.metadata).get("sandbox") or {})
        return replace(
            program, isolation=settings.isolation, limits=settings.limits,
            models=tuple(settings.models),
        )


class SandboxSettings(BaseModel):
    """`metadata.sandbox`: how a code scorer's author wants it run."""

    model_config = ConfigDict(extra="forbid")
    isolation: Isolation = Isolation.BATCH
    time_s: float = Field(DEFAULTS.time_s, gt=0, allow_inf_nan=False)
    memory_mb: int = Field(DEFAULTS.memory_mb, ge=32, le=SETTING_MAX)
    result_bytes: int = Field(DEFAULTS.result_bytes, ge=1024, le=SETTING_MAX)
    log_bytes: int = Field(DEFAULTS.log_bytes, ge=0, le=SETTING_MAX)
    models: list[str] = Field([], max_length=64)

    @property
    def limits(self) -> Limits:
        """The author's limits. The operator's lower limits are applied later."""
        return Limits(
            time_s=self.time_s, memory_mb=self.memory_mb, result_bytes=self.result_bytes,
            log_bytes=self.log_bytes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineCode:
    """Source code as its author wrote it."""

    runtime: Runtime
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BundledCode:
    """A function in a bundle. `bundle` is the sha256 of the bundle's bytes, in hex."""

    runtime: Runtime
    runtime_version: str
    bundle: str
    index: int


def read_function(body: Mapping[str, Json]) -> FunctionBody:
    """The function that a client sent.

    Raises BadInput that names the field and says what is wrong with it, or InvalidSource if the
    source code is wrong.
    """
    values = _values(body)
    try:
        function = FunctionBody.model_validate(dict(body))
    except ValidationError as error:
        raise BadInput(first_problem(error)) from error
    _check_name(function)
    match function.kind:
        case FunctionKind.CODE:
            _check_code(function)
        case FunctionKind.CLASSIFIER:
            read_classifier(function.prompt_data or {}, where="prompt_data")
        case FunctionKind.GLOBAL:
            try:
                catalog.resolve(function.global_name)
            except BadInput as error:
                raise error.within("function_data.name") from error
        case FunctionKind.PROMPT if function.function_type == SCORER:
            raise BadInput(
                'a scorer made of a prompt says what its answers are worth: {"type": '
                '"llm_classifier", "use_cot": true, "choice_scores": {"good": 1, "bad": 0}}',
                path="prompt_data.parser",
            )
    if any("\0" in value for value in values if isinstance(value, str)):
        raise BadInput("\\u0000 cannot be stored")
    return function


def patched(present: FunctionBody, changes: Mapping[str, Json]) -> FunctionBody:
    """The function with `changes` applied, checked as a whole.

    `metadata` is merged; every other given field replaces the present one. Raises the same
    errors as `read_function`.
    """
    merged: JsonObject = {**present.model_dump(), **changes}
    given = changes.get("metadata")
    if isinstance(given, dict):
        merged["metadata"] = {**_object(present.metadata), **given}
    return read_function(merged)


def program_to_json(program: Program) -> JsonObject:
    """The JSON form in which a program is stored."""
    return dict(_PROGRAM.dump_python(program, mode="json"))


def program_from_json(stored: JsonObject) -> Program:
    """The program that `program_to_json` stored."""
    return _PROGRAM.validate_python(stored)


def _check_name(function: FunctionBody) -> None:
    if function.queue is not None and len(function.name) > SCORER_NAME_CHARS_MAX:
        raise BadInput(
            f"a scorer's name must have 1 to {SCORER_NAME_CHARS_MAX} characters", path="name"
        )
    for field in ("name", "slug"):
        text = getattr(function, field)
        if not text.isprintable() or not text.strip():
            raise BadInput("printable characters", path=field)


def _check_code(function: FunctionBody) -> None:
    path = "function_data.data"
    code = _object(function.function_data.get("data"))
    _runtime(code)
    if code["type"] == "inline":
        _check_source(code.get("code"), f"{path}.code")
    else:
        if parse_uuid(str(code.get("bundle_id"))) is None:
            raise BadInput(
                "the bundleId that POST /function/code gave", path=f"{path}.bundle_id"
            )
        if not isinstance(_object(code.get("runtime_context")).get("version"), str):
            raise BadInput(
                'the runtime\'s version, as "3.11"', path=f"{path}.runtime_context.version"
            )
        index = _object(code.get("location")).get("index")
        if isinstance(index, bool) or not isinstance(index, int) or index < 0:
            raise BadInput("a number from 0", path=f"{path}.location.index")
    given = _object(function.metadata).get("sandbox")
    try:
        SandboxSettings.model_validate({} if given is None else given)
    except ValidationError as error:
        raise BadInput(first_problem(error), path="metadata.sandbox") from error


def _check_source(code: Json, path: str) -> None:
    if not isinstance(code, str) or not code.strip():
        raise BadInput("the scorer's source", path=path)
    if (size := len(code.encode())) > CODE_BYTES_MAX:
        raise InvalidSource(
            f"the source has {size} bytes, more than {CODE_BYTES_MAX}: push it as a bundle"
        )
    if (place := code.find("\0")) >= 0:
        before = code[:place]
        raise InvalidSource(
            "the source holds a NUL", line=before.count("\n") + 1,
            column=place - before.rfind("\n"),
        )


def _runtime(code: JsonObject) -> Runtime:
    name = _object(code.get("runtime_context")).get("runtime")
    if name not in (*Runtime,):   # a set would hash the name, which may be a list
        raise BadInput(
            f"{name!r} is not run here; there are {' and '.join(Runtime)}",
            path="function_data.data.runtime_context.runtime",
        )
    return Runtime(str(name))


def _values(body: Mapping[str, Json]) -> list[Json]:
    """Every value and every field name in the body, at any depth.

    Raises BadInput if there are more than NODES_MAX, or if they are nested deeper than
    DEPTH_MAX: jsonb stores nesting so deep that Python cannot serialise it again.
    """
    found: list[Json] = []
    level: list[Json] = [dict(body)]
    for _ in range(DEPTH_MAX):
        found += level
        if len(found) > NODES_MAX:
            raise BadInput(f"more than {NODES_MAX} values")
        level = [
            child
            for value in level
            if isinstance(value, dict | list)
            for child in ([*value, *value.values()] if isinstance(value, dict) else value)
        ]
        if not level:
            return found
    raise BadInput(f"nested deeper than {DEPTH_MAX}")


def _object(value: object) -> JsonObject:
    return value if isinstance(value, dict) else {}
