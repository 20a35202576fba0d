"""Re-score jobs over HTTP and from the command line: planned, run, reported and undone."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import pytest
from stack import Stack

DONE: dict[str, Any] = {"metrics": {"start": 1.0, "end": 2.0}}
JUDGED = "Factuality"
JOB_S = 60
"""The longest that a job of some rows takes on a busy machine, seconds."""


@pytest.fixture
def project(stack: Stack) -> str:
    return stack.project()


def span(row_id: str, **fields: Any) -> dict[str, Any]:
    """A finished span whose output is right."""
    return {"id": row_id, "input": "q", "output": "o", "expected": "o", **DONE, **fields}


def rescore(stack: Stack, project: str, **request: Any) -> dict[str, Any]:
    body = {"project_id": project, "filter": "", "scorers": ["ExactMatch"], **request}
    made: dict[str, Any] = stack.ok("POST", "/v1/rescore", body)
    return made


def reached(stack: Stack, job: dict[str, Any], *states: str) -> dict[str, Any]:
    """The job, once it is in one of the states."""
    def told() -> dict[str, Any] | None:
        found: dict[str, Any] = stack.ok("GET", f"/v1/rescore/{job['id']}")
        return found if found["state"] in states else None

    found = stack.wait_until(told, deadline_s=JOB_S)
    assert found is not None
    return found


def ended(stack: Stack, job: dict[str, Any]) -> dict[str, Any]:
    return reached(stack, job, "completed")


def act(stack: Stack, job: dict[str, Any], action: str) -> dict[str, Any]:
    done: dict[str, Any] = stack.ok("POST", f"/v1/rescore/{job['id']}/{action}", {})
    return done


def scores(stack: Stack, project: str, row_id: str) -> Any:
    row = stack.row(project, row_id)
    assert row is not None
    return row["scores"]


def test_a_job_scores_what_its_filter_matches_and_reports_it(
    stack: Stack, project: str
) -> None:
    stack.insert(project, *(span(f"r{n}", metadata={"n": n}) for n in range(8)))
    stack.insert(project, span("wrong", output="x", metadata={"n": 3}))
    stack.insert(project, {"id": "unfinished", "output": "o", "metadata": {"n": 1}})

    job = rescore(stack, project, filter="metadata.n < 5", scorers=["ExactMatch", "ValidJSON"])
    done = ended(stack, job)

    assert job["state"] == "planned"
    assert (done["progress"]["records"], done["progress"]["completed"]) == (6, 12)
    assert scores(stack, project, "r1") == {"ExactMatch": 1, "ValidJSON": 0}
    assert scores(stack, project, "r7") is None
    assert scores(stack, project, "unfinished") is None
    report = stack.ok("GET", f"/v1/rescore/{job['id']}/report")
    assert report["total"]["completed"] == 12
    exact, valid = report["scorers"]
    assert exact["scores"]["ExactMatch"]["after"]["count"] == 6
    assert exact["scores"]["ExactMatch"]["after"]["mean"] == pytest.approx(5 / 6)
    assert exact["scores"]["ExactMatch"]["before"]["count"] == 0
    assert valid["scores"]["ValidJSON"]["after"]["mean"] == 0


def test_a_job_replaces_what_a_rule_scored_and_a_rollback_brings_it_back(
    stack: Stack, project: str
) -> None:
    made = stack.ok("POST", "/v1/function", {
        "project_id": project, "name": "Close", "slug": "close", "function_type": "scorer",
        "function_data": {"type": "global", "name": "ExactMatch"},
    })
    stack.function_rule(project, {"id": made["id"]})
    stack.insert(project, span("a", output="kitten", expected="sitting"))
    assert stack.scored(project, "a")["scores"] == {"Close": 0}
    stack.ok("PATCH", f"/v1/function/{made['id']}", {
        "function_data": {"type": "global", "name": "Levenshtein"},
    })

    job = ended(stack, rescore(stack, project, scorers=[made["slug"]], only="stale"))

    assert job["progress"]["completed"] == 1
    assert 0 < scores(stack, project, "a")["Close"] < 1
    told = json.dumps(stack.explain(project, "a"))
    assert job["id"] in told
    (scorer,) = stack.ok("GET", f"/v1/rescore/{job['id']}/report")["scorers"]
    assert scorer["scores"]["Close"]["difference"]["pairs"] == 1
    act(stack, job, "rollback")
    stack.wait_until(
        lambda: stack.ok("GET", f"/v1/rescore/{job['id']}")["rollback"]["finished_at"],
        deadline_s=JOB_S,
    )
    assert scores(stack, project, "a") == {"Close": 0}
    assert stack.ok("GET", f"/v1/rescore/{job['id']}")["rollback"]["restored"] == 1


def test_a_score_of_a_person_stays_the_one_shown(stack: Stack, project: str) -> None:
    stack.insert(project, span("a"))
    stack.ok("POST", f"/v1/project_logs/{project}/feedback", {
        "feedback": [{"id": "a", "scores": {"ExactMatch": 0.3}}],
    })
    job = ended(stack, rescore(stack, project))
    assert scores(stack, project, "a") == {"ExactMatch": 0.3}
    report = stack.ok("GET", f"/v1/rescore/{job['id']}/report")
    assert report["total"]["logged_score_shown"] == 1


def test_a_live_match_of_new_content_replaces_a_jobs_score(stack: Stack, project: str) -> None:
    stack.insert(project, span("a"))
    ended(stack, rescore(stack, project))
    stack.rule(project, "ExactMatch")
    stack.logs3(project, {"id": "a", "_is_merge": True, "output": "other"})
    stack.wait_until(
        lambda: scores(stack, project, "a") == {"ExactMatch": 0}, deadline_s=JOB_S
    )


def test_a_job_is_paused_goes_on_and_is_cancelled(stack: Stack, project: str) -> None:
    stack.insert(project, *(span(f"r{n}") for n in range(30)))
    job = rescore(stack, project, max_per_second=2)
    reached(stack, job, "running")

    assert act(stack, job, "pause")["state"] == "paused"
    paused = stack.ok("GET", f"/v1/rescore/{job['id']}")["progress"]
    assert act(stack, job, "resume")["state"] == "running"
    stack.wait_until(
        lambda: stack.ok("GET", f"/v1/rescore/{job['id']}")["progress"]["completed"]
        > paused["completed"], deadline_s=JOB_S,
    )
    changed = stack.ok("PATCH", f"/v1/rescore/{job['id']}", {"max_per_second": 1})
    assert changed["max_per_second"] == 1
    act(stack, job, "cancel")
    done = reached(stack, job, "cancelled")

    assert done["progress"]["completed"] < 30
    counted = ("completed", "cancelled", "unreached", "superseded")
    assert sum(done["progress"][name] for name in counted) == 30
    assert stack.http("POST", f"/v1/rescore/{job['id']}/resume", {}).status == 400


def test_a_probe_pauses_the_job_once(stack: Stack, project: str) -> None:
    stack.insert(project, *(span(f"r{n}") for n in range(9)))
    job = rescore(stack, project, probe=4)
    paused = reached(stack, job, "paused")
    assert paused["paused_by"] == "probe"
    assert paused["progress"]["completed"] == 4
    act(stack, job, "resume")
    assert ended(stack, job)["progress"]["completed"] == 9


def test_a_judges_outcomes_are_run_by_its_worker(stack: Stack, project: str) -> None:
    stack.insert(project, span("a"), span("b"))
    job = ended(stack, rescore(stack, project, scorers=[JUDGED], ids=["b"], filter=None))
    assert job["progress"]["completed"] == 1
    assert scores(stack, project, "b") == {JUDGED: pytest.approx(0.4)}
    assert scores(stack, project, "a") is None


def test_a_repeated_request_gives_the_same_job(stack: Stack, project: str) -> None:
    stack.insert(project, span("a"))
    body = {"project_id": project, "filter": "", "scorers": ["ExactMatch"]}
    key = {"Idempotency-Key": uuid.uuid4().hex}

    first = stack.http("POST", "/v1/rescore", body, headers=key)
    again = stack.http("POST", "/v1/rescore", body, headers=key)
    other = stack.http("POST", "/v1/rescore", {**body, "filter": "id = 'a'"}, headers=key)

    assert first.json["id"] == again.json["id"]
    assert (first.status, again.status, other.status) == (200, 200, 400)
    assert "Idempotency-Key" in other.error
    long = {"Idempotency-Key": "k" * 256}
    assert stack.http("POST", "/v1/rescore", body, headers=long).status == 400
    listed = stack.ok("GET", f"/v1/rescore?project_id={project}")["objects"]
    assert [each["id"] for each in listed] == [first.json["id"]]


def test_a_dry_run_says_what_a_job_would_do_and_makes_none(stack: Stack, project: str) -> None:
    stack.insert(project, *(span(f"r{n}") for n in range(3)))
    plan = rescore(stack, project, dry_run=True, scorers=["ExactMatch", JUDGED])
    assert plan["records"] == 3
    assert stack.ok("GET", f"/v1/rescore?project_id={project}")["objects"] == []
    assert scores(stack, project, "r1") is None


def test_the_command_plans_starts_watches_reports_and_rolls_back(stack: Stack) -> None:
    name = f"by command {uuid.uuid4().hex[:8]}"
    project = stack.project(name)
    stack.insert(project, *(span(f"r{n}") for n in range(5)))
    asked = ("rescore", "--project", name, "--filter", "", "--scorer", "ExactMatch")

    plan = stack.tallyard(*asked, "--dry-run")
    assert plan.returncode == 0, plan.stderr
    assert "5" in plan.stdout
    started = stack.tallyard(*asked, "--yes", "--watch")
    assert started.returncode == 0, started.stderr
    assert "5 completed" in started.stdout
    job = stack.ok("GET", f"/v1/rescore?project_id={project}")["objects"][0]["id"]
    listed = stack.tallyard("rescore", "list", "--project", name)
    assert job in listed.stdout
    report = stack.tallyard("rescore", "report", job)
    assert "ExactMatch" in report.stdout, report.stderr
    as_json = stack.tallyard("rescore", "report", job, "--json")
    assert json.loads(as_json.stdout)["total"]["completed"] == 5
    undone = stack.tallyard("rescore", "rollback", job, "--yes")
    assert "5 records restored" in undone.stdout, undone.stderr
    # What was taken back is missing again.
    assert rescore(stack, project, only="missing", dry_run=True)["records"] == 5
    assert scores(stack, project, "r1") is None
    over = stack.tallyard("rescore", "resume", job)
    assert over.returncode == 1
    assert "too late to resume" in over.stderr
    wrong = stack.tallyard("rescore", "show", "nonsense")
    assert wrong.returncode == 2


def test_a_time_that_a_record_was_created_in_bounds_a_job(stack: Stack, project: str) -> None:
    stack.insert(project, span("a", created="2026-01-01T00:00:00Z"))
    stack.insert(project, span("b"))
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 3600))
    job = ended(stack, rescore(stack, project, created_from=now))
    assert job["progress"]["records"] == 1
    job = ended(stack, rescore(stack, project, created_before=now))
    assert job["progress"]["records"] == 1


def test_what_the_budget_of_a_job_holds_back_runs_when_it_is_raised(
    stack: Stack,
) -> None:
    name = f"capped {uuid.uuid4().hex[:8]}"
    project = stack.project(name)
    stack.insert(project, *(span(f"r{n}") for n in range(6)))
    job = rescore(stack, project, scorers=[JUDGED], budget={"calls": 2})
    stack.wait_until(
        lambda: stack.ok("GET", f"/v1/rescore/{job['id']}")["progress"]["held"] == 4,
        deadline_s=JOB_S,
    )
    listed = stack.tallyard("budgets", "list", "--project", name)
    assert "2 made and 0 reserved of 2" in listed.stdout
    assert "holds back 4 outcomes" in listed.stdout
    raised = stack.tallyard(
        "budgets", "set", "--project", name, "--job", job["id"], "--period", "total",
        "--calls", "6",
    )
    assert raised.returncode == 0, raised.stderr
    assert ended(stack, job)["progress"]["completed"] == 6


@pytest.mark.parametrize(("changed", "said"), [
    ({"filter": "metadata.n <"}, "filter"),
    ({"scorers": ["NoSuchScorer"]}, "no scorer of autoevals and no slug"),
    ({"only": "fresh"}, "only"),
    ({"max_records": 0}, "max_records"),
    ({"ids": ["a"]}, "leave filter and rule_id out"),
])
def test_a_wrong_request_makes_no_job(
    stack: Stack, project: str, changed: dict[str, Any], said: str
) -> None:
    body = {"project_id": project, "filter": "id = 'a'", "scorers": ["ExactMatch"], **changed}
    answer = stack.http("POST", "/v1/rescore", body)
    assert answer.status == 400
    assert said in answer.error
    assert stack.ok("GET", f"/v1/rescore?project_id={project}")["objects"] == []
