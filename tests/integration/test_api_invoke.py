"""Functions run while their caller waits: invoked, tried on stored rows, compared."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from load import span
from stack import Answer, Stack

EXACT = {"global_function": "ExactMatch", "function_type": "scorer"}
PROMPT = {
    "prompt": {"type": "completion", "content": "{{input}} {{output}}"},
    "options": {"model": "gpt-4o"},
    "parser": {
        "type": "llm_classifier", "use_cot": True, "choice_scores": {"A": 1, "B": 0.25},
    },
}


@pytest.fixture
def project(stack: Stack) -> str:
    return stack.project()


def invoke(stack: Stack, body: dict[str, Any], **more: Any) -> Answer:
    return stack.http("POST", "/function/invoke", body, **more)


def classifier(stack: Stack, project: str, slug: str = "polite", **changes: Any) -> Any:
    """A classifier as PUT /v1/function gives it."""
    prompt = {**PROMPT, **changes}
    return stack.ok("PUT", "/v1/function", {
        "project_id": project, "name": f"is {slug}", "slug": slug, "function_type": "scorer",
        "function_data": {"type": "prompt"}, "prompt_data": prompt,
    })


def events(answer: Answer) -> Iterator[tuple[str, str]]:
    """The events of a stream: (name, data)."""
    for block in answer.body.decode().strip().split("\n\n"):
        fields = dict(line.split(":", 1) for line in block.split("\n"))
        yield fields["event"].strip(), fields["data"].strip()


# --- invoke


def test_a_global_scorer_that_computes(stack: Stack) -> None:
    asked = {**EXACT, "input": {"output": {"z": 1, "a": 2}, "expected": {"z": 1, "a": 2}}}
    answer = invoke(stack, asked)
    assert (answer.status, answer.json) == (200, {"name": "ExactMatch", "score": 1.0})

    # The order of keys counts, as it does in autoevals itself.
    asked["input"] = {"output": {"z": 1, "a": 2}, "expected": {"a": 2, "z": 1}}
    assert invoke(stack, asked).json["score"] == 0


def test_a_judged_scorer_brings_its_rationale(stack: Stack) -> None:
    asked = {
        "global_function": "Factuality",
        "input": {"input": "q", "output": "o", "expected": "e"},
    }
    told = invoke(stack, asked).json
    assert told["name"] == "Factuality"
    assert told["score"] == pytest.approx(0.4)
    assert told["metadata"]["choice"] == "A"
    assert told["metadata"]["rationale"]


def test_a_function_by_id_by_slug_and_by_version(stack: Stack, project: str) -> None:
    first = classifier(stack, project)
    worse = {**PROMPT["parser"], "choice_scores": {"A": 0.5, "B": 0}}
    second = classifier(stack, project, parser=worse)
    assert second["id"] == first["id"]
    (name,) = [
        one["name"] for one in stack.ok("GET", "/v1/project")["objects"] if one["id"] == project
    ]
    given = {"input": {"input": "i", "output": "o"}}

    def score(**named: str) -> float:
        return float(invoke(stack, {**named, **given}).json["score"])

    assert score(function_id=first["id"]) == 0.5
    assert score(function_id=first["id"], version=first["_xact_id"]) == 1
    assert score(project_name=name, slug="polite") == 0.5
    assert score(project_name=name, slug="polite", version=first["_xact_id"]) == 1
    in_path = stack.ok("POST", f"/v1/function/{first['id']}/invoke", given)
    assert (in_path["name"], in_path["score"]) == ("is polite", 0.5)


def test_what_sdks_send_beside_it_changes_nothing(stack: Stack, project: str) -> None:
    made = classifier(stack, project)
    told = invoke(
        stack,
        {
            "function_id": made["id"], "input": {"input": "i", "output": "o"}, "stream": False,
            "metadata": None, "tags": None, "parent": "", "api_version": 1, "messages": [],
            "mode": "auto", "strict": False, "overrides": {},
        },
        headers={"x-bt-project-id": project, "x-bt-org-name": "tallyard",
                 "accept": "application/json"},
    )
    assert (told.status, told.json["score"]) == (200, 1)


def test_a_function_that_is_given_whole_is_kept_nowhere(stack: Stack, project: str) -> None:
    before = len(stack.ok("GET", "/v1/function")["objects"])
    told = invoke(stack, {
        "inline_prompt": PROMPT, "name": "once", "input": {"input": "i", "output": "o"},
    })
    assert told.json["name"] == "once"
    assert told.json["score"] == 1
    assert len(stack.ok("GET", "/v1/function")["objects"]) == before


def test_a_judge_that_declines_gives_null(stack: Stack, project: str) -> None:
    made = classifier(stack, project, parser={**PROMPT["parser"], "allow_skip": True})
    given = {"input": {"input": "judge!ok;choice=Skip ", "output": "o"}}
    assert invoke(stack, {"function_id": made["id"], **given}).json is None


def test_a_stream_ends_with_the_result_and_done(stack: Stack, project: str) -> None:
    made = classifier(stack, project)
    asked = {"function_id": made["id"], "input": {"input": "i", "output": "o"}}
    for told in (
        invoke(stack, {**asked, "stream": True}),
        invoke(stack, asked, headers={"accept": "text/event-stream"}),
    ):
        assert told.status == 200
        assert told.headers["content-type"].startswith("text/event-stream")
        (delta, data), last = events(told)
        assert delta == "json_delta"
        assert json.loads(data)["score"] == 1
        assert last == ("done", "")


def test_a_scorers_error_is_500_with_its_words(stack: Stack, project: str) -> None:
    missing = invoke(stack, {**EXACT, "input": {"output": "o"}})
    assert missing.status == 500
    assert "expected" in missing.error
    made = classifier(stack, project)
    asked = {"function_id": made["id"], "input": {"input": "judge!401", "output": "o"}}
    assert invoke(stack, asked).status == 500

    (name, data), last = events(invoke(stack, {**asked, "stream": True}))
    assert name == "error"
    assert json.loads(data).startswith("judge_refused: ")
    assert last == ("done", "")


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({}, 400, "name the function by"),
        ({"function_id": "7"}, 404, "no such function"),
        ({"function_id": "00000000-0000-0000-0000-000000000000"}, 404, "no such function"),
        ({"slug": "x"}, 400, "project_name"),
        ({"project_name": "there is none", "slug": "x"}, 404, "no project"),
        ({"global_function": "factuality"}, 400, "did you mean Factuality"),
        ({"global_function": "x", "function_type": "tool"}, 400, "only scorers"),
        ({**EXACT, "input": "text"}, 400, "input: must be an object"),
        (EXACT, 400, "input: must be an object"),
        ({"inline_context": {"runtime": "ruby"}, "code": "x"}, 400, "runtime"),
        ({"inline_context": {"runtime": "python"}}, 400, "code"),
        ({"inline_prompt": {"prompt": {"type": "chat", "messages": []}}}, 400, ""),
        ({"prompt_session_id": "x", "prompt_session_function_id": "y"}, 404, "session"),
    ],
    ids=str,
)
def test_what_cannot_be_invoked_is_refused(
    stack: Stack, body: dict[str, Any], status: int, said: str
) -> None:
    answer = invoke(stack, {"input": {}, **body} if body is not EXACT else body)
    assert answer.status == status, answer.body
    assert said in answer.error


def test_input_has_the_limits_of_a_span(stack: Stack) -> None:
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    answer = invoke(stack, {**EXACT, "input": {"output": deep, "expected": 1}})
    assert (answer.status, "nested too deep" in answer.error) == (400, True)
    answer = invoke(stack, {**EXACT, "input": {"output": [1] * 20_000, "expected": 1}})
    assert (answer.status, "TALLYARD_NODES_MAX" in answer.error) == (400, True)


def test_a_plain_prompt_is_no_scorer(stack: Stack, project: str) -> None:
    kept = stack.ok("POST", "/v1/prompt", {
        "project_id": project, "name": "greet", "slug": "greet",
        "prompt_data": {"prompt": PROMPT["prompt"], "options": {"model": "gpt-4o"}},
    })
    answer = invoke(stack, {"function_id": kept["id"], "input": {}})
    assert answer.status == 400
    assert "only scorers" in answer.error


def test_keys_reach_what_is_theirs(stack: Stack, project: str) -> None:
    made = classifier(stack, project)
    asked = {"function_id": made["id"], "input": {"input": "i", "output": "o"}}
    assert invoke(stack, asked, key=stack.key("read")).status == 403
    assert invoke(stack, asked, key=stack.key("ingest")).status == 200
    own = stack.key("ingest", project=project)
    assert invoke(stack, asked, key=own).status == 200
    other = stack.key("ingest", project=stack.project())
    assert invoke(stack, asked, key=other).status == 404
    once = {"inline_prompt": PROMPT, "input": {"input": "i", "output": "o"}}
    assert invoke(stack, once, key=stack.key("ingest")).status == 403
    assert invoke(stack, once, key=stack.key("admin", project=project)).status == 200
    foreign = stack.new_key("admin", org="another")
    assert invoke(stack, asked, key=foreign).status == 404


def test_a_judge_that_is_busy_is_asked_again_while_the_caller_waits(
    stack: Stack, project: str
) -> None:
    made = classifier(stack, project)
    for marker, status in (("429;times=1", 200), ("401", 500)):
        asked = {"input": f"judge!{marker} {project}", "output": "o"}
        answer = invoke(stack, {"function_id": made["id"], "input": asked})
        assert answer.status == status, answer.body


def test_many_at_once_do_not_wait_for_each_other(stack: Stack, project: str) -> None:
    made = classifier(stack, project)
    asked = {
        "function_id": made["id"], "input": {"input": "judge!ok;delay=1.5 ", "output": "o"},
    }
    begin = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: invoke(stack, asked).status, range(16)))
    assert answers == [200] * 16
    # One after another they would take 24 s; and the API has fewer threads than that.
    assert time.monotonic() - begin < 18


# --- code


CODE = """
import sys

def handler(input, output, tags=None):
    print("seen", output)
    print("aside", file=sys.stderr)
    match input:
        case "several":
            return [{"name": "first", "score": 1}, {"name": "second", "score": 0.5}]
        case "none":
            return None
        case "raise":
            raise ValueError("not this one")
        case "spin":
            while True:
                pass
        case "order":
            return {"score": 1, "metadata": {"keys": list(output)}}
    return len(output) / 10
"""


def inline(code: str, **arguments: Any) -> dict[str, Any]:
    """Python that is given whole."""
    return {
        "inline_context": {"runtime": "python", "version": "3.11"}, "code": code,
        "name": "mine", "input": arguments,
    }


def test_code_that_is_given_whole(stack: Stack) -> None:
    def result(given: str, output: Any = "four") -> Any:
        answer = invoke(stack, inline(CODE, input=given, output=output))
        assert answer.status == 200, answer.body
        return answer.json

    assert result("length") == {"name": "mine", "score": 0.4}
    assert result("several") == [
        {"name": "first", "score": 1.0}, {"name": "second", "score": 0.5}
    ]
    assert result("none") is None
    assert result("order", {"z": 1, "a": 2})["metadata"] == {"keys": ["z", "a"]}


def test_what_code_does_wrong_is_told(stack: Stack) -> None:
    raised = invoke(stack, inline(CODE, input="raise", output="o"))
    assert raised.status == 500
    assert "ValueError: not this one" in raised.error
    assert raised.json["error"]["class"] == "error"

    body = {
        "name": "spins", "slug": "spins", "function_type": "scorer",
        "function_data": {"type": "code", "data": {
            "type": "inline", "code": CODE, "runtime_context": {"runtime": "python"},
        }},
        "metadata": {"sandbox": {"time_s": 0.5}},
    }
    spun = invoke(stack, {"function": body, "input": {"input": "spin", "output": "o"}})
    assert (spun.status, spun.json["error"]["class"]) == (500, "timeout")

    broken = invoke(stack, inline("def handler(:\n", input=1))
    assert broken.status == 422
    assert broken.json["error"]["class"] == "invalid_source"
    assert broken.json["error"]["line"] == 1


def test_a_stream_carries_what_code_printed(stack: Stack) -> None:
    told = invoke(stack, {**inline(CODE, input="x", output="four"), "stream": True})
    console, delta, done = events(told)
    assert console[0] == "console"
    assert set(json.loads(console[1])["message"].split("\n")) >= {"seen four", "aside"}
    assert json.loads(delta[1]) == {"name": "mine", "score": 0.4}
    assert done[0] == "done"


def test_two_versions_of_code_are_compared(stack: Stack, project: str) -> None:
    def put(code: str) -> Any:
        data = {"type": "inline", "code": code, "runtime_context": {"runtime": "python"}}
        return stack.ok("PUT", "/v1/function", {
            "project_id": project, "name": "long", "slug": "long", "function_type": "scorer",
            "function_data": {"type": "code", "data": data},
        })

    old = put("def handler(output): return len(output) > 3")
    new = put("def handler(output, trace): return len(trace.get_spans()) > 1")
    stack.insert(
        project, *(span(f"row {n}", output="long" if n % 2 else "no") for n in range(120))
    )

    told = stack.ok("POST", f"/v1/function/{old['id']}/diff", {
        "from": old["_xact_id"], "to": new["_xact_id"], "last": 200,
    })
    # More rows than one call carries; each is a trace of its own.
    assert (told["rows"], told["agreement"], len(told["flips"])) == (120, 0.5, 60)
    assert told["cost"]["to"]["errors"] == 0


# --- who answers, and when nobody does


SLOW_CODE = "import time\ndef handler(output):\n    time.sleep(1.5)\n    return 1"
SLOW: dict[str, dict[str, Any]] = {
    "judge": {
        "inline_prompt": PROMPT, "input": {"input": "judge!ok;delay=1.5 ", "output": "o"},
    },
    "sandbox": inline(SLOW_CODE, output="o"),
}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("worker", SLOW)
def test_a_call_outlives_the_worker_that_took_it(
    own_stack: Stack, worker: str, how: signal.Signals
) -> None:
    own_stack.start("api", worker, "beat")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(invoke, own_stack, SLOW[worker])
        own_stack.wait_until(lambda: attempts(own_stack, "run") == [1], deadline_s=30)
        own_stack.kill(worker, how)
        own_stack.wait_until(lambda: not own_stack.is_running(worker), deadline_s=15)
        own_stack.start(worker)
        assert waiting.result(timeout=60).json["score"] == 1
    assert attempts(own_stack, "run") == [2]


def test_a_queue_without_workers_is_told(own_stack: Stack) -> None:
    own_stack.environment["TALLYARD_INVOKE_TIMEOUT_S"] = "1"
    own_stack.start("api")
    answer = invoke(own_stack, {**EXACT, "input": {"output": "o", "expected": "o"}})
    assert (answer.status, answer.json["error"]["class"]) == (503, "no_worker")
    assert "heavy" in answer.error


def attempts(stack: Stack, kind: str) -> list[int]:
    """How often workers took each call of this kind."""
    with stack._database.cursor() as cursor:
        cursor.execute(
            "select attempts from invocation where request ->> 'kind' = %s order by created",
            (kind,),
        )
        return [count for (count,) in cursor]


# --- tests


def test_a_scorer_is_tried_on_stored_rows_and_nothing_is_saved(
    stack: Stack, project: str
) -> None:
    made = classifier(stack, project)
    stack.insert(
        project, span("good", input="i"), span("bad", input="judge!ok;choice=B "),
        span("broken", input="judge!unknown_choice"), {"id": "unfinished", "input": "i"},
    )
    before = stack.rows(project)

    told = stack.ok("POST", "/v1/function/test", {
        "project_id": project, "function_id": made["id"], "last": 10,
    })

    assert told["role"] == "preview"
    rows = {row["id"]: row for row in told["rows"]}
    assert set(rows) == {"good", "bad", "broken"}
    assert rows["good"]["scores"] == {"is polite": 1}
    assert rows["good"]["metadata"]["is polite"]["choice"] == "A"
    assert rows["good"]["usage"]["calls"] == 1
    assert rows["bad"]["scores"] == {"is polite": 0.25}
    assert rows["broken"]["state"] == "errored"
    assert rows["broken"]["error"]["class"] == "bad_result"
    assert stack.rows(project) == before
    assert stack.count("outcome", project) == 0


def test_rows_are_chosen_by_filter_and_by_name(stack: Stack, project: str) -> None:
    for n in range(12):
        stack.insert(project, span(f"row {n}", metadata={"n": n}))
    by_span = stack.row(project, "row 3")
    assert by_span is not None

    def tried(**choice: Any) -> list[str]:
        body = {"project_id": project, **EXACT, **choice}
        return [row["id"] for row in stack.ok("POST", "/v1/function/test", body)["rows"]]

    assert tried(last=3) == ["row 11", "row 10", "row 9"]
    assert tried(last=2, filter="metadata.n < 5 OR metadata.n = 7") == ["row 7", "row 4"]
    assert tried(filter="metadata.n > 99") == []
    assert tried(ids=["row 1", by_span["span_id"], "row 1"]) == ["row 1", "row 3"]


@pytest.mark.parametrize(
    ("choice", "status", "said"),
    [
        ({"last": 101}, 400, "last"),
        ({"last": True}, 400, "last"),
        ({"ids": []}, 400, "ids"),
        ({"ids": ["not there"]}, 404, "not there"),
        ({"filter": "metadata.x ="}, 400, ""),
        ({"filter": 7}, 400, "filter"),
        ({"project_id": "x"}, 404, "project"),
    ],
    ids=str,
)
def test_a_test_that_cannot_be_made_is_refused(
    stack: Stack, project: str, choice: dict[str, Any], status: int, said: str
) -> None:
    body = {"project_id": project, **EXACT, **choice}
    answer = stack.http("POST", "/v1/function/test", body)
    assert answer.status == status, answer.body
    assert said in answer.error


def test_tests_are_for_admins_and_their_projects(stack: Stack, project: str) -> None:
    body = {"project_id": project, **EXACT}
    test = "/v1/function/test"
    assert stack.http("POST", test, body, key=stack.key("ingest")).status == 403
    other = stack.key("admin", project=stack.project())
    assert stack.http("POST", test, body, key=other).status == 404


# --- differences


def test_two_versions_are_compared_on_the_same_rows(stack: Stack, project: str) -> None:
    old = classifier(stack, project)
    harder = {**PROMPT["parser"], "choice_scores": {"A": 1, "B": 0.75}}
    new = classifier(stack, project, parser=harder)
    stack.insert(
        project,
        *(span(f"good {n}", input="i") for n in range(3)),
        span("turns", input="judge!ok;choice=B "),
    )

    told = stack.ok("POST", f"/v1/function/{old['id']}/diff", {
        "from": old["_xact_id"], "to": new["_xact_id"], "last": 100,
    })

    assert (told["from"], told["to"]) == (old["_xact_id"], new["_xact_id"])
    assert (told["rows"], told["agreement"]) == (4, 0.75)
    assert told["mean_difference"] == pytest.approx(0.125)
    (flip,) = told["flips"]
    assert (flip["id"], flip["from"]["scores"], flip["to"]["scores"]) == (
        "turns", {"is polite": 0.25}, {"is polite": 0.75}
    )
    link = flip["link"].removeprefix(stack.api_url)
    assert stack.ok("GET", link)["id"] == "turns"
    for cost in told["cost"].values():
        assert (cost["calls"], cost["errors"]) == (4, 0)
        assert cost["prompt_tokens"] > 0


def test_a_version_that_is_not_there_cannot_be_compared(stack: Stack, project: str) -> None:
    made = classifier(stack, project)
    path = f"/v1/function/{made['id']}/diff"
    assert stack.http("POST", path, {"from": "7"}).status == 404
    assert "from" in stack.http("POST", path, {}).error
