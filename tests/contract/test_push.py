"""`braintrust push` of both real command lines, unmodified: what is pushed runs and scores.

What they bundle was fetched at set-up: here they reach loopback alone.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from client_runs import SCRIPTS
from stack import ROOT, Stack, inherited

from scorers.sandbox.place import find_place

CLIENTS = ROOT / ".cache" / "clients"
PYTHON = CLIENTS / "push-0.47"
JAVASCRIPT = CLIENTS / "push-js" / "node_modules"
PUSH_S = 120
ENDED = {"metrics": {"end": 1.0}}


@dataclass(frozen=True)
class Pushed:
    """One push, as the API shows what came of it."""

    language: str
    project: str
    functions: dict[str, dict[str, Any]]
    stack: Stack

    def invoke(self, slug: str, **given: Any) -> Any:
        return self.stack.ok(
            "POST", "/function/invoke",
            {"function_id": self.functions[slug]["id"], "input": given},
        )


def push(stack: Stack, language: str, folder: Path, *more: str) -> None:
    """Push `push_scorer` of that language with its own command line."""
    environment = {
        "BRAINTRUST_APP_URL": stack.api_url, "BRAINTRUST_API_KEY": stack.key(),
        "HOME": str(folder),
    }
    if language == "python":
        assert PYTHON.exists(), "run `make environment-test`"
        shutil.copy(SCRIPTS / "push_scorer.py", folder)
        path = f"{PYTHON / 'bin'}:/usr/bin:/bin"
        wheels = {"UV_FIND_LINKS": str(PYTHON / "wheels"), "UV_CACHE_DIR": str(folder / "uv")}
        environment |= {"PATH": path, "UV_NO_INDEX": "1", "UV_OFFLINE": "1", **wheels}
        command = [str(PYTHON / "bin" / "braintrust"), "push", "push_scorer.py"]
    else:
        assert JAVASCRIPT.exists(), "run `make environment-test`"
        shutil.copy(SCRIPTS / "push_scorer.ts", folder)
        modules = folder / "node_modules"
        if not modules.exists():
            modules.symlink_to(JAVASCRIPT)
        script = JAVASCRIPT / "braintrust" / "dist" / "cli.js"
        command = [str(find_place().node), str(script), "push", "push_scorer.ts"]
    done = subprocess.run(
        [*command, *more], cwd=folder, env=inherited(**environment), capture_output=True,
        text=True, timeout=PUSH_S, check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def functions_of(stack: Stack, project: str) -> dict[str, dict[str, Any]]:
    listed = stack.ok("GET", f"/v1/function?project_id={project}")["objects"]
    return {each["slug"]: each for each in listed}


@pytest.fixture(scope="module", params=["python", "typescript"])
def pushed(
    request: pytest.FixtureRequest, stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> Pushed:
    language: str = request.param
    project = stack.project(f"pushed with {language}")
    push(stack, language, tmp_path_factory.mktemp(language))
    return Pushed(language, project, functions_of(stack, project), stack)


def test_every_scorer_of_the_file_is_there_as_it_was_defined(pushed: Pushed) -> None:
    assert set(pushed.functions) == {"same", "near", "polite"}
    same = pushed.functions["same"]
    assert (same["name"], same["description"]) == ("Same", "Equal or not")
    assert same["function_type"] == "scorer"
    assert same["metadata"] == {"sandbox": {"time_s": 2}}
    polite = pushed.functions["polite"]
    assert polite["prompt_data"]["parser"]["choice_scores"] == {"yes": 1, "no": 0}


def test_a_pushed_function_answers_who_invokes_it(pushed: Pushed) -> None:
    assert pushed.invoke("same", output="a", expected="a") in (1, {"name": "Same", "score": 1})


def test_a_pushed_function_runs_with_the_libraries_of_its_bundle(pushed: Pushed) -> None:
    told = pushed.invoke("near", output="kitten", expected="sitting")
    assert told["name"] == "near"
    assert told["score"] == pytest.approx(1 - 3 / 7)
    assert told["metadata"] == {"by": "Levenshtein"}


def test_a_rule_scores_with_pushed_functions(pushed: Pushed) -> None:
    stack = pushed.stack
    stack.function_rule(
        pushed.project,
        *({"id": pushed.functions[slug]["id"]} for slug in ("same", "near")),
    )
    (row_id,) = stack.insert(
        pushed.project, {"input": "q", "output": "kitten", "expected": "sitting", **ENDED}
    )
    stack.scored(pushed.project, row_id)

    row = stack.row(pushed.project, row_id)
    assert row is not None
    assert row["scores"] == {"Same": 0.25, "near": pytest.approx(1 - 3 / 7)}
    (rule,) = stack.explain(pushed.project, row_id)["rules"]
    logs = {each["scorer"]: each["log"] for each in rule["outcomes"]}
    assert "comparing" in str(logs)


def test_pushing_again_replaces_only_when_asked(
    pushed: Pushed, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError):
        push(pushed.stack, pushed.language, tmp_path)
    assert functions_of(pushed.stack, pushed.project) == pushed.functions

    push(pushed.stack, pushed.language, tmp_path, "--if-exists", "replace")
    again = functions_of(pushed.stack, pushed.project)
    assert {slug: each["id"] for slug, each in again.items()} == {
        slug: each["id"] for slug, each in pushed.functions.items()
    }
    assert again["same"]["_xact_id"] > pushed.functions["same"]["_xact_id"]


def test_a_pushed_judge_is_asked_with_its_prompt(pushed: Pushed) -> None:
    told = pushed.invoke("polite", output="thank you")
    assert told["score"] in (0, 1)
    assert told["metadata"]["choice"] in ("yes", "no")
