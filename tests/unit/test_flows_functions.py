"""How a function is read, which program it runs, and which versions a rule asks for."""

from __future__ import annotations

import asyncio
import json
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from flows.functions.code_check import program_of
from rules.model import NamedFunction, ShadowVersion
from rules.named_functions import NO_VERSION, NamedFunctions
from rules.outcome_requests import requests_of
from rules.rule_set import rule_from_json
from scorers.functions.body import (
    CODE_BYTES_MAX,
    FunctionBody,
    InlineCode,
    patched,
    program_from_json,
    program_to_json,
    read_function,
)
from scorers.functions.function import (
    NOT_UPLOADED,
    Function,
    IfExists,
    read_definition,
    read_rollout,
    read_version,
)
from scorers.functions.version import FUNCTION, FunctionKind
from scorers.sandbox.model import CodeCheck, Isolation, Limits, Program, Runtime
from spans.errors import BadInput, InvalidSource, NotFound
from spans.ids import FunctionId, OrgId, ProjectId, Xact
from spans.scoring import Role, ScorerRef

ID = FunctionId(uuid.UUID(int=7))
CODE = "def handler(output):\n    return 1\n"
BUNDLE = str(uuid.UUID(int=9))


def inline(code: Any = CODE, runtime: str = "python", **fields: Any) -> dict[str, Any]:
    data = {
        "type": "inline", "runtime_context": {"runtime": runtime, "version": "3.11"},
        "code": code,
    }
    return {
        "name": "Is right", "slug": "is-right", "function_type": "scorer",
        "function_data": {"type": "code", "data": data}, **fields,
    }


def bundled(**changes: Any) -> dict[str, Any]:
    data = {
        "type": "bundle", "runtime_context": {"runtime": "python", "version": "3.11"},
        "location": {"type": "function", "index": 2}, "bundle_id": BUNDLE, **changes,
    }
    return inline(function_data={"type": "code", "data": data})


def judged(**changes: Any) -> dict[str, Any]:
    parser = {"type": "llm_classifier", "use_cot": True, "choice_scores": {"good": 1, "bad": 0}}
    messages = [{"role": "user", "content": "Is {{output}} good?"}]
    return inline(function_data={"type": "prompt"}, prompt_data={
        "prompt": {"type": "chat", "messages": messages}, "options": {"model": "gpt-4o"},
        "parser": parser,
    }, **changes)


def function(body: FunctionBody, program: Program | None = None) -> Function:
    return Function(
        id=ID, org_id=OrgId(uuid.UUID(int=1)), project_id=ProjectId(uuid.UUID(int=2)),
        version=Xact(5), in_force=Xact(5), created=datetime(2026, 1, 1, tzinfo=UTC), body=body,
        program=program, shadow=None,
    )


# --- what it is


@pytest.mark.parametrize(
    ("body", "kind", "queue"),
    [
        (inline(), FunctionKind.CODE, "sandbox"),
        (inline(runtime="node"), FunctionKind.CODE, "sandbox"),
        (inline(function_type=None), FunctionKind.CODE, "sandbox"),
        (bundled(), FunctionKind.CODE, "sandbox"),
        (judged(), FunctionKind.CLASSIFIER, "judge"),
        (judged(function_type=None), FunctionKind.CLASSIFIER, "judge"),
        (inline(function_data={"type": "global", "name": "Levenshtein"}),
         FunctionKind.GLOBAL, "heavy"),
        (inline(function_data={"type": "global", "name": "Factuality"}),
         FunctionKind.GLOBAL, "judge"),
        (inline(function_data={"type": "prompt"}, function_type=None,
                prompt_data={"prompt": {"type": "completion", "content": "Say {{input}}"}}),
         FunctionKind.PROMPT, None),
        (inline(function_type="tool"), FunctionKind.OTHER, None),
        (inline(function_data={"type": "graph", "nodes": {}}), FunctionKind.OTHER, None),
        (inline(function_data={"type": "code", "data": {
            "type": "bundle", "location": {"type": "sandbox", "eval_name": "e"}}}),
         FunctionKind.OTHER, None),
        (judged(function_type="classifier"), FunctionKind.OTHER, None),
    ],
)
def test_a_function_is_what_its_data_says_and_runs_in_the_queue_for_that(
    body: dict[str, Any], kind: FunctionKind, queue: str | None
) -> None:
    read = read_function(body)
    assert (read.kind, read.queue) == (kind, queue)


def test_fields_of_clients_of_another_day_are_left_aside() -> None:
    read = read_function({**inline(), "if_exists": "replace", "environments": [{"slug": "x"}]})
    assert read == read_function(inline())


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({}, "name"),
        (inline(name=""), "name"),
        (inline(name="x" * 101), "name"),
        (inline(name="a\nb"), "name"),
        (inline(slug=""), "slug"),
        (inline(function_data="code"), "function_data"),
        (inline(runtime="ruby"), "runtime_context.runtime"),
        (inline(runtime="browser"), "runtime_context.runtime"),
        (inline(code=" \n"), "function_data.data.code"),
        (inline(code=7), "function_data.data.code"),
        (bundled(bundle_id="../../etc"), "function_data.data.bundle_id"),
        (bundled(bundle_id=None), "function_data.data.bundle_id"),
        (bundled(location={"type": "function", "index": -1}), "location.index"),
        (bundled(location={"type": "function", "index": "0"}), "location.index"),
        (inline(function_data={"type": "global", "name": "factuality"}), "Factuality"),
        ({**judged(), "prompt_data": {"prompt": {}}}, "prompt_data.parser"),
        (inline(metadata={"sandbox": {"time": 3}}), "metadata.sandbox"),
        (inline(metadata={"sandbox": {"time_s": 0}}), "time_s"),
        (inline(metadata={"sandbox": {"isolation": "none"}}), "isolation"),
        (inline(metadata={"sandbox": "record"}), "metadata.sandbox"),
        (inline(tags=["a", 1]), "tags"),
        (inline(description="a\0b"), "u0000"),
        (inline(metadata={"a\0b": 1}), "u0000"),
        (inline(metadata={"deep": json.loads("[" * 70 + "]" * 70)}), "deeper"),
        (inline(metadata={"wide": [0] * 30_000}), "values"),
    ],
)
def test_a_function_that_is_not_understood_is_refused_by_its_place(
    body: dict[str, Any], place: str
) -> None:
    with pytest.raises(BadInput, match=place):
        read_function(body)


def test_a_nul_in_code_is_told_with_its_line_and_column() -> None:
    with pytest.raises(InvalidSource) as caught:
        read_function(inline(code="def handler():\n  x\0 = 1"))
    assert (caught.value.line, caught.value.column) == (2, 4)


def test_code_beyond_the_limit_is_to_be_pushed_as_a_bundle() -> None:
    assert read_function(inline(code="#" * CODE_BYTES_MAX)).source is not None
    with pytest.raises(InvalidSource, match="bundle"):
        read_function(inline(code="#" * (CODE_BYTES_MAX + 1)))


def test_a_change_merges_metadata_and_replaces_the_rest() -> None:
    before = read_function(inline(metadata={"a": 1, "b": 2}, description="old", tags=["x"]))
    after = patched(before, {"metadata": {"b": 3}, "description": None})
    assert after.metadata == {"a": 1, "b": 3}
    assert (after.description, after.tags) == (None, ["x"])
    with pytest.raises(BadInput, match="slug"):
        patched(before, {"slug": ""})


# --- what runs it


def test_the_authors_settings_lie_over_the_program() -> None:
    given = {"isolation": "record", "time_s": 2.5, "memory_mb": 128, "models": ["gpt-4o"]}
    body = read_function(inline(metadata={"sandbox": given}))
    program = body.with_settings(Program(runtime=Runtime.PYTHON, code="c"))
    assert program.isolation is Isolation.RECORD
    assert program.limits == Limits(time_s=2.5, memory_mb=128)
    assert program.models == ("gpt-4o",)
    assert program_from_json(program_to_json(program)) == program


def test_a_bundle_is_run_by_the_hash_of_its_bytes() -> None:
    body = read_function(bundled())
    assert str(body.bundle_id) == BUNDLE
    program = body.bundled_program("ab" * 32)
    assert (program.bundle, program.index, program.code) == ("ab" * 32, 2, None)


def test_a_bundle_without_bytes_is_a_problem_that_goes_with_them() -> None:
    body = read_function(bundled())
    assert function(body).as_version().problem == NOT_UPLOADED
    assert function(body, body.bundled_program("00")).as_version().problem is None


def checked(body: FunctionBody, present: Function | None, answer: CodeCheck) -> Any:
    """(what `program_of` gives, the sources that it had looked at)"""
    seen: list[InlineCode] = []

    async def check(source: InlineCode) -> CodeCheck:
        seen.append(source)
        return answer

    return asyncio.run(program_of(body, present, check)), seen


def test_code_is_looked_at_before_it_is_kept_and_again_only_when_it_changes() -> None:
    body = read_function(inline())
    made = Program(runtime=Runtime.PYTHON, code=CODE, parameters=("output",))
    answer = CodeCheck(program=made)
    program, seen = checked(body, None, answer)
    assert seen == [InlineCode(runtime=Runtime.PYTHON, code=CODE)]

    present = function(body, program)
    renamed = patched(body, {"name": "other", "metadata": {"sandbox": {"time_s": 1}}})
    again, seen = checked(renamed, present, answer)
    assert (again.limits.time_s, again.parameters, seen) == (1, ("output",), [])

    _, seen = checked(read_function(inline(code="x = 1")), present, answer)
    assert len(seen) == 1


def test_source_that_is_no_scorer_is_refused_with_its_line_and_column() -> None:
    with pytest.raises(InvalidSource, match="never closed") as caught:
        checked(read_function(inline()), None,
                CodeCheck(problem="'(' was never closed", line=3, column=9))
    assert (caught.value.line, caught.value.column) == (3, 9)


def test_what_is_no_inline_code_is_not_looked_at() -> None:
    assert checked(read_function(judged()), None, CodeCheck()) == (None, [])
    assert checked(read_function(bundled()), None, CodeCheck()) == (None, [])


# --- what a push says


def test_a_definition_says_what_becomes_of_a_slug_that_is_there() -> None:
    project = str(uuid.UUID(int=3))
    assert read_definition({**inline(), "project_id": project}).if_exists == "error"
    with pytest.raises(BadInput, match="if_exists"):
        read_definition({**inline(), "project_id": project, "if_exists": "overwrite"})
    with pytest.raises(BadInput, match="project_id"):
        read_definition(inline())
    with pytest.raises(NotFound):
        read_definition({**inline(), "project_id": "p"})


@pytest.mark.parametrize(
    "rollout", [0.5, {}, {"shadow": 2}, {"shadow": True}, {"shadow": 0.1, "until": 1}]
)
def test_a_rollout_that_is_not_understood_is_refused(rollout: Any) -> None:
    with pytest.raises(BadInput, match="rollout"):
        read_rollout({"rollout": rollout})


@pytest.mark.parametrize(
    "text", ["", "v1", "-1", "1.0", "1" * 20, "9" * 19, "\u00b2", True, None]
)
def test_a_version_is_an_xact_id(text: Any) -> None:
    with pytest.raises(BadInput, match="version"):
        read_version(text)


# --- what a rule asks for


def named(**changes: Any) -> NamedFunction:
    return NamedFunction(**{
        "id": ID, "version": Xact(10), "is_pinned": False, "name": "mine",
        "queue": "sandbox", **changes,
    })


def wanted(functions: NamedFunctions, pin: str | None = None, trace: str = "t") -> Any:
    choice = {"type": "function", "id": str(ID), **({"version": pin} if pin else {})}
    rule = rule_from_json({
        "id": str(uuid.UUID(int=8)), "project_id": str(uuid.UUID(int=2)), "name": "rule",
        "created": "2026-01-01T00:00:00Z",
        "config": {"online": {"sampling_rate": 1, "scorers": [choice]}},
    })
    asked = requests_of(rule, functions, None).on_trace(trace)
    return [(one.use.scorer.version, one.use.role) for one in asked]


def test_a_rule_follows_the_version_in_force_or_pins_one() -> None:
    functions = NamedFunctions([named(), named(version=Xact(3), is_pinned=True, name="old")])
    assert wanted(functions) == [("10", Role.LIVE)]
    assert wanted(functions, pin="3") == [("3", Role.LIVE)]
    old = ScorerRef(kind=FUNCTION, name=str(ID), version="3")
    assert (functions.label(old), functions.queue(old)) == ("old", "sandbox")


def test_a_shadow_runs_beside_on_its_share_of_the_traces() -> None:
    def share(rate: float) -> float:
        shadow = ShadowVersion(version=Xact(11), queue="judge", rate=rate)
        functions = NamedFunctions([named(shadow=shadow)])
        both = [("10", Role.LIVE), ("11", Role.SHADOW)]
        runs = [wanted(functions, trace=f"trace {n}") for n in range(400)]
        assert all(run in ([("10", Role.LIVE)], both) for run in runs)
        return sum(run == both for run in runs) / len(runs)

    assert (share(0), share(1)) == (0, 1)
    # Of 400 draws at a quarter, a share beyond these comes less than once in a million.
    assert 0.14 < share(0.25) < 0.36


def test_a_deleted_function_is_an_error_that_names_it() -> None:
    functions = NamedFunctions([
        named(is_deleted=True, shadow=ShadowVersion(version=Xact(11), queue="judge", rate=1)),
        named(is_deleted=True, is_pinned=True, version=Xact(3)),
    ])
    assert wanted(functions) == [("10", Role.LIVE)]
    for version in ("10", "3"):
        with pytest.raises(BadInput, match=r"mine.*deleted"):
            functions.queue(ScorerRef(kind=FUNCTION, name=str(ID), version=version))


def test_a_function_of_which_nothing_is_known_is_an_error_that_names_its_id() -> None:
    functions = NamedFunctions([])
    assert wanted(functions) == [(NO_VERSION, Role.LIVE)]
    with pytest.raises(BadInput, match=str(ID)):
        functions.queue(ScorerRef(kind=FUNCTION, name=str(ID), version=NO_VERSION))


@pytest.mark.parametrize("value", [[], {}, 7, "ruby"])
@pytest.mark.parametrize("place", ["runtime", "function_type"])
def test_a_value_of_any_type_is_refused_by_a_sentence(place, value):
    code = {"type": "inline", "code": "x = 1", "runtime_context": {"runtime": value}}
    data = (
        {"type": "code", "data": code} if place == "runtime"
        else {"type": "global", "name": "Levenshtein", "function_type": value}
    )
    body = {"name": "n", "slug": "n", "function_type": "scorer", "function_data": data}
    if place == "runtime":
        with pytest.raises(BadInput, match="is not run here"):
            read_function(body)
    else:
        assert read_function(body).queue is None


@pytest.mark.parametrize("name", ["memory_mb", "result_bytes", "log_bytes"])
def test_a_limit_that_no_json_reader_holds_is_refused(name):
    code = {
        "type": "inline", "code": "x = 1",
        "runtime_context": {"runtime": "python", "version": "3"},
    }
    body = {
        "name": "n", "slug": "n", "function_type": "scorer",
        "function_data": {"type": "code", "data": code},
        "metadata": {"sandbox": {name: "9" * 30}},
    }

    with pytest.raises(BadInput, match=f"metadata.sandbox: {name}"):
        read_function(body)


@pytest.mark.parametrize("value", [None, "", False, 0, [], {}])
def test_an_empty_if_exists_is_one_that_was_not_sent(value):
    item = {
        "project_id": str(uuid.UUID(int=1)), "name": "n", "slug": "n", "if_exists": value,
        "function_data": {"type": "global", "name": "Levenshtein"},
    }

    assert read_definition(item).if_exists is IfExists.ERROR
