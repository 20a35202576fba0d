"""`tallyard scorers` on a running stack: push, test, compare, list."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from load import span
from stack import Stack

from wiring.yaml_files import read_yaml

JUDGE = """
name: Is it polite?
slug: polite
model: gpt-4o
prompt: |
  How polite is {{output}} to {{input}}?
use_cot: true
choice_scores: {A: 1, B: 0.25}
"""
CODE = """
def length(text):
    return len(text)


def handler(output, metadata):
    print("looked at", output)
    if output == "raise":
        raise ValueError("cannot judge that")
    return {"score": min(1, length(output) / 10), "metadata": {"length": length(output)}}
"""
TYPESCRIPT = """
export async function handler({output}: {output: string}): Promise<number> {
  console.log("looked at", output)
  return output.length > 3 ? 1 : 0
}
"""


@pytest.fixture
def name(stack: Stack) -> str:
    """A project of the test's own, by name."""
    own = f"scorers {uuid.uuid4().hex[:8]}"
    stack.project(own)
    return own


def ran(stack: Stack, name: str, *arguments: str | Path) -> str:
    done = stack.tallyard("scorers", *map(str, arguments), "--project", name)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def told(stack: Stack, name: str, *arguments: str | Path) -> Any:
    return json.loads(ran(stack, name, *arguments, "--json"))


def refused(stack: Stack, name: str, *arguments: str | Path) -> str:
    done = stack.tallyard("scorers", *map(str, arguments), "--project", name)
    assert done.returncode == 1
    assert done.stderr.startswith("tallyard: ")
    assert "Traceback" not in done.stderr
    return done.stderr


def written(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_a_judge_is_pushed_changed_tried_and_compared(
    stack: Stack, name: str, tmp_path: Path
) -> None:
    project = stack.project(name)
    file = written(tmp_path, "judge.yaml", JUDGE)
    first = told(stack, name, "push", file)
    assert (first["slug"], first["is_new"]) == ("polite", True)
    again = told(stack, name, "push", file)
    assert (again["_xact_id"], again["is_new"]) == (first["_xact_id"], False)
    file.write_text(JUDGE.replace("0.25", "0.75"))
    second = told(stack, name, "push", file)
    assert second["id"] == first["id"]
    assert second["is_new"]

    stack.insert(project, span("good", input="i"), span("bad", input="judge!ok;choice=B "))
    before = stack.rows(project)
    shown = ran(stack, name, "test", "polite", "--last", "5")
    assert "good  Is it polite? 1.00" in shown
    assert "bad  Is it polite? 0.75" in shown
    assert "2 rows: 2 scores, mean 0.875, 0 errors" in shown
    old = ran(stack, name, "test", "polite", "--version", first["_xact_id"], "--span", "bad")
    assert "bad  Is it polite? 0.25" in old
    assert "good" not in old

    newest, oldest = ran(stack, name, "versions", "polite").splitlines()
    assert newest == f"{second['_xact_id']}  Is it polite?  (in force)"
    assert oldest == f"{first['_xact_id']}  Is it polite?"
    assert told(stack, name, "diff", "polite")["from"] == first["_xact_id"]

    shown = ran(stack, name, "diff", "polite", "--from", first["_xact_id"])
    assert "2 rows, the same score on 50.0% of them" in shown
    assert "bad  Is it polite? 0.25  ->  Is it polite? 0.75" in shown
    assert "2 judge calls" in shown
    parsed = told(
        stack, name, "diff", "polite", "--from", second["_xact_id"], "--to", first["_xact_id"],
        "--filter", "id = 'good'",
    )
    assert (parsed["rows"], parsed["agreement"], parsed["flips"]) == (1, 1, [])
    assert stack.rows(project) == before


def test_a_file_is_tried_before_it_is_pushed(stack: Stack, name: str, tmp_path: Path) -> None:
    stack.insert(stack.project(name), span("good", input="i"))
    file = written(tmp_path, "judge.yml", JUDGE)
    assert "good  Is it polite? 1.00" in ran(stack, name, "test", file)
    assert told(stack, name, "list") == {"scorers": []}


def test_choices_called_yes_and_no_stay_words(
    stack: Stack, name: str, tmp_path: Path
) -> None:
    file = written(tmp_path, "judge.yaml", JUDGE.replace("A: 1, B: 0.25", "yes: 1, no: 0"))
    pushed = told(stack, name, "push", file)
    kept = stack.ok("GET", f"/v1/function/{pushed['id']}")
    assert kept["prompt_data"]["parser"]["choice_scores"] == {"yes": 1, "no": 0}


def test_a_rule_names_a_scorer_of_the_project_by_its_slug(
    stack: Stack, name: str, tmp_path: Path
) -> None:
    pushed = told(stack, name, "push", written(tmp_path, "judge.yaml", JUDGE))
    rules = written(tmp_path, "scoring.yaml", f"""
project: {name}
rules:
  - {{name: bare, scorers: [polite, Levenshtein]}}
  - {{name: slug, scorers: [{{slug: polite}}]}}
  - {{name: long, scorers: [{{type: function, slug: polite}}]}}
""")
    shown = stack.tallyard("rules", "apply", str(rules))
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    after = lines[lines.index("+ bare") + 1]
    assert after == "    scorers: [{type: function, slug: polite}, Levenshtein]"

    made = stack.ok("GET", f"/v1/project_score?project_id={stack.project(name)}")["objects"]
    own = {"type": "function", "id": pushed["id"]}
    by_name = {rule["name"]: rule["config"]["online"]["scorers"] for rule in made}
    assert by_name == {
        "bare": [own, {"type": "global", "name": "Levenshtein"}], "slug": [own], "long": [own],
    }
    exported = stack.tallyard("rules", "export", "--project", name).stdout
    told_back = read_yaml(exported, source="rules export")["rules"]
    assert all({"type": "function", "slug": "polite"} in rule["scorers"] for rule in told_back)


def test_a_shadow_does_not_come_in_force(stack: Stack, name: str, tmp_path: Path) -> None:
    file = written(tmp_path, "judge.yaml", JUDGE)
    first = told(stack, name, "push", file)
    file.write_text(JUDGE.replace("0.25", "0.75"))
    shown = ran(stack, name, "push", file, "--shadow", "0.5")
    assert "a shadow, rate 0.5" in shown
    (listed,) = told(stack, name, "list")["scorers"]
    assert listed["_xact_id"] == first["_xact_id"]
    assert listed["shadow"]["rate"] == 0.5
    assert listed["shadow"]["version"] in shown
    assert "shadow: " in ran(stack, name, "list")
    assert "(shadow)" in ran(stack, name, "versions", "polite").splitlines()[0]
    assert "nothing to compare yet" in ran(stack, name, "shadow", "polite")


def test_code_is_pushed_and_tried(stack: Stack, name: str, tmp_path: Path) -> None:
    project = stack.project(name)
    stack.insert(
        project, span("short", output="four"), span("long", output="more than ten"),
        span("bad", output="raise"),
    )
    file = written(tmp_path, "How long.py", CODE)
    before = told(stack, name, "test", file)
    pushed = told(stack, name, "push", file, "--sandbox", "isolation=record")
    assert pushed["slug"] == "how-long"
    kept = stack.ok("GET", f"/v1/function/{pushed['id']}")
    assert kept["metadata"] == {"sandbox": {"isolation": "record"}}

    after = told(stack, name, "test", "how-long")
    for tried in (before, after):
        rows = {row["id"]: row for row in tried["rows"]}
        assert rows["short"]["scores"] == {"How long": 0.4}
        assert rows["short"]["metadata"] == {"How long": {"length": 4}}
        assert rows["long"]["scores"] == {"How long": 1}
        assert rows["bad"]["error"]["class"] == "error"
        assert "cannot judge that" in rows["bad"]["error"]["message"]
    assert rows["long"]["log"].strip() == "looked at more than ten"
    shown = ran(stack, name, "test", "how-long")
    assert "    | looked at four" in shown
    assert "3 rows: 2 scores, mean 0.700, 1 error, " in shown
    (first,) = [line for line in shown.splitlines() if line.startswith("bad  ")]
    assert first.endswith(" ms")
    assert "cannot judge that" in shown


@pytest.mark.parametrize(
    ("setting", "models"),
    [
        ("models=gpt-4o, llama-3.1:8b,", ["gpt-4o", "llama-3.1:8b"]),
        ("models=gpt-4o", ["gpt-4o"]),
        ('models=["gpt-4o"]', ["gpt-4o"]),
        ("models=4", ["4"]),
        ("models=", []),
    ],
)
def test_models_of_a_scorer_are_named_with_commas_or_as_a_list(
    stack: Stack, name: str, tmp_path: Path, setting: str, models: list[str]
) -> None:
    stack.project(name)

    pushed = told(
        stack, name, "push", written(tmp_path, "asks.py", CODE), "--sandbox", setting
    )

    kept = stack.ok("GET", f"/v1/function/{pushed['id']}")
    assert kept["metadata"] == {"sandbox": {"models": models}}


def test_what_is_long_is_printed_to_be_read(stack: Stack, name: str, tmp_path: Path) -> None:
    stack.insert(stack.project(name), *(span(f"row {number}") for number in range(12)))
    passing = "def handler(output):\n    return 1\n"
    raising = "def handler(output):\n    raise ValueError('one\\ntwo')\n"
    file = written(tmp_path, "flip.py", passing)
    ran(stack, name, "push", file)
    file.write_text(raising)
    ran(stack, name, "push", file)

    shown = ran(stack, name, "diff", "flip").splitlines()
    flips = shown[shown.index("12 flips") + 1:]
    assert len(flips) == 12
    assert all(line.startswith("  row ") and "->  error: " in line for line in flips[:10])
    assert flips[10] == "  and 2 more"
    assert "--json" in flips[11]

    head, *rest, summary = ran(stack, name, "test", "flip", "--last", "1").splitlines()
    assert head.startswith("row ")
    assert head.endswith(" ms")
    assert rest
    assert all(line.startswith("    ") for line in rest)
    assert "    two" in rest
    assert summary.startswith("1 row: 0 scores, 1 error, ")


def test_typescript_is_pushed_and_tried(stack: Stack, name: str, tmp_path: Path) -> None:
    stack.insert(stack.project(name), span("a", output="four"), span("b", output="no"))
    ran(stack, name, "push", written(tmp_path, "long.ts", TYPESCRIPT), "--name", "Long")
    rows = {row["id"]: row["scores"] for row in told(stack, name, "test", "long")["rows"]}
    assert rows == {"a": {"Long": 1}, "b": {"Long": 0}}


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("bad.py", "x = 1\ndef handler(output):\n    return (\n", "bad.py:3:"),
        ("none.py", "x = 1\n", "none.py: There is no handler"),
        ("empty.py", "\n", "empty.py: the file is empty"),
        ("empty.yaml", "# later\n", "empty.yaml: the file is empty"),
        ("bad.ts", "export const handler = ({output}) => {\n  return (;\n}\n", "bad.ts:2:"),
        ("scorer.rb", "x", "not in '.rb'"),
        ("bad.yaml", "prompt: [", "not valid YAML"),
        ("two.yaml", "prompt: x\nprompt: y\n", "two.yaml:2: the key 'prompt' is given twice"),
        ("both.yaml", "prompt: x\nmessages: []\n", "either prompt"),
        ("odd.yaml", f"{JUDGE}\nchoices: 3\n", "unknown keys: choices"),
        ("none.yaml", "prompt: x\n", "choice_scores"),
    ],
    ids=str,
)
def test_what_is_no_scorer_is_refused_with_its_place(
    stack: Stack, name: str, tmp_path: Path, file: str, text: str, said: str
) -> None:
    path = written(tmp_path, file, text)
    assert said in refused(stack, name, "push", path)
    assert said in refused(stack, name, "test", path)


def test_what_is_not_there_cannot_be_tried(stack: Stack, name: str, tmp_path: Path) -> None:
    file = written(tmp_path, "judge.yaml", JUDGE)
    assert "no function 'nobody'" in refused(stack, name, "test", "nobody")
    assert "there is no file 'nope.py'" in refused(stack, name, "test", "nope.py")
    assert "no finished span" in refused(stack, name, "test", file)
    stack.insert(stack.project(name), span("a", input="i"))
    assert "no span 'b'" in refused(stack, name, "test", file, "--span", "b")
    ran(stack, name, "push", file)
    assert "'polite' at version 7" in refused(stack, name, "diff", "polite", "--from", "7")
    assert "'polite' has no version before" in refused(stack, name, "diff", "polite")
