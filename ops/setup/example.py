"""The example that the first start shows: logs questions and answers, and prints their scores.

It uses the HTTP API as any client does, so it shows what a user gets. The questions and answers
are our own. Some answers are wrong, and some are right in other words.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from pydantic import BaseModel, ValidationError

from ops.servers.children import wait_until
from ops.servers.http_client import HttpError, request

PROJECT = "example"
HTTP_TIMEOUT_S = 10.0
WAIT_S = 30.0
POLL_S = 0.2
BATCH_ROWS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleRule:
    """A rule on root spans with this topic, or on all root spans if `topic` is None."""

    name: str
    scorer: str
    topic: str | None = None

    def selects(self, answered: Example) -> bool:
        """Whether the rule scores this answer."""
        return self.topic in {None, answered.topic}


RULES = (
    ExampleRule(name="Close to the expected answer", scorer="Levenshtein"),
    ExampleRule(name="Sums must be exact", scorer="ExactMatch", topic="arithmetic"),
)


@dataclass(frozen=True, slots=True)
class Example:
    """A question, the application's answer, and the expected answer."""

    topic: str
    question: str
    answer: str
    expected: str


ANSWERS = (
    Example("geography", "Which river runs through Vienna?", "the Danube", "the Danube"),
    Example("geography", "What is the capital of Australia?", "Sydney", "Canberra"),
    Example("geography", "Which sea lies east of Ancona?", "Adriatic", "the Adriatic"),
    Example("geography", "On which continent is Suriname?", "South America", "South America"),
    Example("geography", "What is Africa's highest mountain?", "Mount Kenya", "Kilimanjaro"),
    Example("geography", "Which country is Tartu in?", "Estonia", "Estonia"),
    Example("geography", "What is the longest river of France?", "the Loire", "the Loire"),
    Example("geography", "Which strait parts Sicily from Calabria?", "Messina", "of Messina"),
    Example("arithmetic", "17 + 25", "42", "42"),
    Example("arithmetic", "9 * 13", "117", "117"),
    Example("arithmetic", "144 / 12", "12.0", "12"),
    Example("arithmetic", "1001 - 77", "934", "924"),
    Example("arithmetic", "2 to the power of 10", "1024", "1024"),
    Example("arithmetic", "15 % of 80", "12", "12"),
    Example("arithmetic", "the square root of 169", "13", "13"),
    Example("arithmetic", "7 * 8", "54", "56"),
    Example("cooking", "What makes sourdough rise?", "wild yeast", "wild yeast"),
    Example("cooking", "Which grain is polenta made of?", "maize", "maize"),
    Example("cooking", "What thickens a roux?", "starch of the flour", "the flour's starch"),
    Example("cooking", "At how many degrees Celsius does water boil?", "100", "100"),
    Example("cooking", "Which spice colours paella yellow?", "turmeric", "saffron"),
    Example("cooking", "What is tahini made of?", "sesame seeds", "sesame"),
    Example("cooking", "Which acid is in vinegar?", "acetic acid", "acetic acid"),
    Example("cooking", "What is drained off to make ricotta?", "whey", "nothing: it is whey"),
)


class _Thing(BaseModel):
    id: str


class _Things(BaseModel):
    objects: list[_Thing]


class _Row(BaseModel):
    id: str
    scores: dict[str, float | None] | None = None


class _Page(BaseModel):
    events: list[_Row]


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """A client of Tallyard's HTTP API."""

    url: str
    key: str

    def call(self, method: str, path: str, body: object = None) -> bytes:
        """Body of the answer. Raises OSError or HttpError unless the status is 2xx."""
        status, content = request(
            method, self.url, path, timeout_s=HTTP_TIMEOUT_S,
            body=None if body is None else json.dumps(body),
            headers={
                "Authorization": f"Bearer {self.key}", "Content-Type": "application/json",
            },
        )
        if status >= HTTPStatus.MULTIPLE_CHOICES:
            text = content.decode(errors="replace")[:200]
            raise HttpError(f"{method} {path} gave {status}: {text}")
        return content


def show_example(api: Api, *, say: Callable[[str], None]) -> None:
    """Load the example and print each score as it arrives; do nothing if a project exists.

    Errors are printed and not raised, because the example must not stop the servers.
    """
    try:
        if _Things.model_validate_json(api.call("GET", "/v1/project?limit=1")).objects:
            return
        project = _Thing.model_validate_json(
            api.call("POST", "/v1/project", {"name": PROJECT})
        )
        _make_rules(api, project.id)
        say(f"Logging {len(ANSWERS)} answers to the project {PROJECT!r}; their scores:")
        began_s = time.monotonic()
        answers_by_id = _log_answers(api, project.id)
        missing = _show_scores(api, project.id, answers_by_id, say=say)
    except (OSError, HttpError, ValidationError) as error:
        say(f"The example could not be shown ({error}); all else runs.")
        return
    if missing:
        say(f"After {WAIT_S:g} s, {missing} answers have no score yet: see the workers' logs.")
    else:
        say(f"All answers were scored in {time.monotonic() - began_s:.1f} s.")
        say(f"To ask why: . .venv/bin/activate; tallyard explain {next(iter(answers_by_id))}\n")


def _make_rules(api: Api, project_id: str) -> None:
    for rule in RULES:
        online = {
            "sampling_rate": 1,
            "scorers": [{"type": "global", "name": rule.scorer}],
            "apply_to_root_span": True,
            "btql_filter": f"metadata.topic = '{rule.topic}'" if rule.topic else None,
        }
        body = {
            "project_id": project_id,
            "name": rule.name,
            "score_type": "online",
            "config": {"online": online},
        }
        api.call("POST", "/v1/project_score", body)


def _log_answers(api: Api, project_id: str) -> dict[str, Example]:
    """Log the answers as finished root spans, in small batches; gives them by row id."""
    answers_by_id = {f"example-{number}": each for number, each in enumerate(ANSWERS, start=1)}
    rows = list(answers_by_id.items())
    for first in range(0, len(rows), BATCH_ROWS):
        events = [_event(row_id, each) for row_id, each in rows[first : first + BATCH_ROWS]]
        api.call("POST", f"/v1/project_logs/{project_id}/insert", {"events": events})
    return answers_by_id


def _event(row_id: str, answered: Example) -> dict[str, object]:
    now_s = time.time()
    return {
        "id": row_id,
        "input": answered.question,
        "output": answered.answer,
        "expected": answered.expected,
        "metadata": {"topic": answered.topic},
        "span_attributes": {"name": "answer", "type": "task"},
        # A span without an end is not finished, and is not scored.
        "metrics": {"start": now_s - 0.1, "end": now_s},
    }


def _show_scores(
    api: Api, project_id: str, answers_by_id: dict[str, Example], *, say: Callable[[str], None]
) -> int:
    """Print each new score until all are there. Gives how many answers still lack one."""
    shown: set[tuple[str, str]] = set()
    awaited = {
        (row_id, rule.scorer)
        for row_id, each in answers_by_id.items()
        for rule in RULES
        if rule.selects(each)
    }

    def all_shown() -> bool:
        page = _Page.model_validate_json(
            api.call("POST", f"/v1/project_logs/{project_id}/fetch", {"limit": 200})
        )
        for row in reversed(page.events):  # fetch gives the newest first
            for name, value in (row.scores or {}).items():
                if (row.id, name) in awaited - shown and value is not None:
                    shown.add((row.id, name))
                    say(_line(name, value, answers_by_id[row.id]))
        return shown == awaited

    wait_until(all_shown, deadline_s=WAIT_S, every_s=POLL_S)
    return len({row_id for row_id, _ in awaited - shown})


def _line(name: str, value: float, answered: Example) -> str:
    wanted = "" if value == 1 else f"  (expected: {answered.expected})"
    return f"  {value:4.2f}  {name:<11}  {answered.question}  {answered.answer}{wanted}"
