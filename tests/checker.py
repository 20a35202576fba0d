"""Compares what clients were promised with what the database holds.

While a test runs, a `Log` records what was sent and what was acknowledged, and a trigger that
the test adds records each change of the state of outcomes and outbox entries. When no work is
left, `Checker.violations` compares both, and the judge's calls, with the stored rows.

The checker knows only the tables of the code under test. `tests/faults/test_mutants.py` proves
that it finds the violations that it is made to find.
"""

from __future__ import annotations

import json
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg
from fakes.judge import FakeJudge
from psycopg.rows import dict_row
from score_entries import WRONG_ENTRIES
from sqlalchemy import make_url

FINAL = frozenset({"completed", "skipped", "errored", "superseded"})
SHOWN = 20

WAITING = """
    select (select count(*) from outbox)
         + (select count(*) from outcome where state = 'pending')"""
"""How many outbox entries and outcomes wait."""

MATCHES = """
    select concat_ws(' ', object_no, xact) as entry, count(*) from match_record group by 1"""
"""How often the entry of each write was matched."""

HISTORY = """
create table checker_history (
  seq bigint generated always as identity, kind text not null, id text not null,
  is_lead boolean, was text, became text, holder text, writer text, attempts integer);
create function checker_note_outcome() returns trigger language plpgsql as $$
begin
  insert into checker_history (kind, id, is_lead, was, became, holder, writer, attempts)
  values ('outcome', concat_ws(' ', new.subject_seq, new.subject_version, new.use_no),
          new.is_lead,
          case when tg_op = 'UPDATE' then old.state end, new.state,
          case when tg_op = 'UPDATE' then old.owner end,
          split_part(current_setting('application_name'), ' ', 2), new.attempts);
  return null;
end $$;
create function checker_note_entry() returns trigger language plpgsql as $$
begin
  insert into checker_history (kind, id, was, became, holder, writer, attempts)
  values ('entry', concat_ws(' ', old.object_no, old.xact), 'waiting', 'gone', old.owner,
          split_part(current_setting('application_name'), ' ', 2), old.attempts);
  return null;
end $$;
create trigger checker_outcome after insert or update on outcome
  for each row execute function checker_note_outcome();
create trigger checker_entry after delete on outbox
  for each row execute function checker_note_entry();
"""


def connect(database_url: str) -> psycopg.Connection[dict[str, Any]]:
    """A connection for the test, which does not carry the name of a Tallyard process."""
    url = make_url(database_url)
    return psycopg.connect(
        user=url.username, dbname=url.database, host=str(url.query["host"]), autocommit=True,
        row_factory=dict_row,
    )


def query(database_url: str, statement: str, *values: Any) -> list[dict[str, Any]]:
    with connect(database_url) as connection:
        return connection.execute(statement, values).fetchall()


def number(database_url: str, statement: str, *values: Any) -> Any:
    """The one value of the one row."""
    (row,) = query(database_url, statement, *values)
    return next(iter(row.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedRule:
    """A rule and what it must do. `selects` tells from a row's fields if it selects the row."""

    id: str
    scorers: tuple[str, ...]
    selects: Callable[[Mapping[str, Any]], bool] = lambda _fields: True


class Log:
    """Records what clients sent and what the API answered. Entries are only added.
    Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.sent: list[tuple[int, str, dict[str, Any]]] = []
        self.acknowledged: list[int] = []
        self.refusals: list[tuple[int, str | None]] = []
        self.surprises: list[str] = []
        self._requests = 0

    def send(self, events: Iterable[Mapping[str, Any]]) -> int:
        """Note a request before it is sent. Returns its number."""
        with self._lock:
            self._requests += 1
            self.sent += [(self._requests, event["id"], dict(event)) for event in events]
            return self._requests

    def acknowledge(self, request: int) -> None:
        """Note that the answer to the request was 2xx."""
        with self._lock:
            self.acknowledged.append(request)

    def refuse(self, status: int, retry_after: str | None) -> None:
        """Note that a request was refused temporarily."""
        with self._lock:
            self.refusals.append((status, retry_after))

    def surprise(self, text: str) -> None:
        """Note an answer that no client should ever get."""
        with self._lock:
            self.surprises.append(text)

    def promised(self) -> dict[str, list[dict[str, Any]]]:
        """The contents that each row may have now, by row id: the last acknowledged content, or
        one that was sent later and not answered."""
        acknowledged = set(self.acknowledged)
        contents: dict[str, list[dict[str, Any]]] = {}
        for request, row_id, event in self.sent:
            merged = {**(contents.get(row_id) or [{}])[-1], **event}
            if request in acknowledged:
                contents[row_id] = [merged]
            elif row_id in contents:
                contents[row_id].append(merged)
        return contents

    def known(self) -> set[str]:
        """The ids of all rows that were ever sent."""
        return {row_id for _, row_id, _ in self.sent}


@dataclass(slots=True)
class Checker:
    """Checks one project's rows and outcomes against the log.

    `error_classes` are the errors that the test's own scorers and judge cause on purpose.
    `retries` says that the test used `outcomes retry`, the only way for an errored outcome to
    become pending again. Without `connection`, each query opens a connection.
    """

    database_url: str
    project: str
    rules: tuple[CheckedRule, ...]
    log: Log = field(default_factory=Log)
    judge: FakeJudge | None = None
    error_classes: frozenset[str] = frozenset()
    retries: bool = False
    connection: psycopg.Connection[dict[str, Any]] | None = None

    def watch(self) -> None:
        """Start recording the history of states. Call this before anything is logged."""
        with connect(self.database_url) as connection:
            if not self._number("select to_regclass('checker_history')::text"):
                connection.execute(HISTORY)

    def is_quiet(self) -> bool:
        """Whether no outbox entry and no outcome waits any more."""
        return not self._number(WAITING)

    def assert_holds(self) -> None:
        """Fail with the violations, if there are any."""
        found = self.violations()
        shown = "\n  ".join(found[:SHOWN])
        assert not found, f"{len(found)} violations:\n  {shown}"

    def violations(self) -> list[str]:
        """The contradictions between the database and the log, each as a sentence."""
        found = self._rows()
        rows = {row["id"]: row for row in found}
        outcomes = self._outcomes()
        spans = {row_id: row for row_id, row in rows.items() if not _is_score_span(row)}
        return [
            *self.log.surprises,
            *_of_ids(found),
            *self._of_rows(spans),
            *self._of_outcomes(spans, outcomes),
            *self._of_scores(spans, rows, outcomes),
            *self._of_entries(),
            *self._of_leases(),
            *self._of_history(),
            *self._of_calls(spans, outcomes),
        ]

    # --- what is stored

    def _query(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        if self.connection is not None:
            return self.connection.execute(statement, values).fetchall()
        return query(self.database_url, statement, *values)

    def _number(self, statement: str, *values: Any) -> Any:
        (row,) = self._query(statement, *values)
        return next(iter(row.values()))

    def _rows(self) -> list[dict[str, Any]]:
        return self._query(
            """select shown.id, content_xact, deleted_at, shown.input, shown.output,
                      shown.expected, shown.metadata, shown.metrics, shown.span_attributes,
                      shown.context, shown.origin, computed_scores, computed_by, scores,
                      span.scored_seq, span.scored_version, span.scored_use
                 from shown_span shown join span using (object_no, seq)
                where project_id = %s""",
            self.project,
        )

    def _outcomes(self) -> list[dict[str, Any]]:
        return self._query(
            """select subject_seq, subject_id, subject_version, use_no, origin_kind,
                      origin_id::text, role, scorer, scorer_version, state, error_class,
                      error_message, scores, attempts, deaths, skip_logging, queue
                 from shown_outcome where project_id = %s""",
            self.project,
        )

    # --- what must hold

    def _of_rows(self, spans: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
        for row_id, contents in self.log.promised().items():
            row = spans.get(row_id)
            if row is None or row["deleted_at"] is not None:
                yield f"row {row_id} was acknowledged and is not there"
            elif not any(_fits(row, content) for content in contents):
                yield f"row {row_id} does not hold what was acknowledged last"
        for row_id in spans.keys() - self.log.known():
            yield f"row {row_id} was never sent"

    def _of_outcomes(
        self, spans: Mapping[str, Mapping[str, Any]], outcomes: list[dict[str, Any]]
    ) -> Iterable[str]:
        keys = Counter(map(_key, outcomes))
        for key, count in keys.items():
            if count > 1:
                yield f"{count} outcomes for the one key {key}"
        for outcome in outcomes:
            yield from self._of_outcome(outcome, spans.get(outcome["subject_id"]))
        present = {
            (outcome["subject_id"], outcome["subject_version"], outcome["origin_id"],
             outcome["scorer"])
            for outcome in outcomes
        }
        for row_id, row in spans.items():
            for rule in self.rules:
                for scorer in rule.scorers:
                    there = (row_id, row["content_xact"], rule.id, scorer) in present
                    wanted = _is_finished(row) and rule.selects(row)
                    if wanted and not there:
                        yield f"row {row_id}: no outcome of {scorer} for rule {rule.id}"
                    if there and not wanted:
                        yield f"row {row_id}: rule {rule.id} scored what it does not select"

    def _of_outcome(
        self, outcome: Mapping[str, Any], row: Mapping[str, Any] | None
    ) -> Iterable[str]:
        told = _told(outcome)
        scorers = {(rule.id, scorer) for rule in self.rules for scorer in rule.scorers}
        if row is None or (outcome["origin_id"], outcome["scorer"]) not in scorers:
            yield f"{told}: nobody asked for it"
            return
        if outcome["state"] not in FINAL:
            yield f"{told}: not final"
        if outcome["subject_version"] > row["content_xact"]:
            yield f"{told}: of content that the row never had"
        is_current = outcome["subject_version"] == row["content_xact"]
        if is_current and outcome["state"] == "superseded":
            yield f"{told}: superseded, and its content is the present one"
        error_class = outcome["error_class"]
        if outcome["state"] == "errored" and error_class not in self.error_classes:
            yield f"{told}: {error_class}: {outcome['error_message']}"

    def _of_scores(
        self, spans: Mapping[str, Mapping[str, Any]], rows: Mapping[str, Mapping[str, Any]],
        outcomes: list[dict[str, Any]],
    ) -> Iterable[str]:
        current = [
            outcome for outcome in outcomes
            if outcome["subject_id"] in spans and outcome["state"] != "superseded"
            and outcome["subject_version"] == spans[outcome["subject_id"]]["content_xact"]
        ]
        present = set(map(_number, current))
        score_spans: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
        for row_id, row in rows.items():
            if _is_score_span(row):
                score_spans[_number_shown(row)].append(row)
                if _number_shown(row) not in present:
                    yield f"score span {row_id} belongs to no present outcome"
        shown: dict[str, dict[str, dict[Any, Any]]] = defaultdict(lambda: defaultdict(dict))
        for outcome in current:
            row_id = outcome["subject_id"]
            yield from _of_score_spans(outcome, score_spans[_number(outcome)])
            for score in outcome["scores"] or []:
                if score["score"] is not None:
                    shown[row_id][score["name"]][_number(outcome)[1:]] = score["score"]
            if outcome["scorer"] == "ExactMatch" and outcome["state"] == "completed":
                row = spans[row_id]
                if outcome["scores"][0]["score"] != int(row["output"] == row["expected"]):
                    yield f"{_told(outcome)}: its score is of other content"
        for row_id, row in spans.items():
            yield from _of_shown(row_id, row, shown[row_id])

    def _of_entries(self) -> Iterable[str]:
        for wrong in self._query(f"{WRONG_ENTRIES} where project_id = %s", self.project):
            yield f"entry of a score, {wrong['entry']}"

    def _of_leases(self) -> Iterable[str]:
        for table in ("outbox", "outcome"):
            held = self._number(
                f"""select count(*) from {table}
                     where owner is not null or lease_until is not null""",
            )
            if held:
                yield f"{held} rows of {table} are still leased"
        waiting = self._number("select count(*) from outbox")
        if waiting:
            yield f"{waiting} outbox entries were never matched"

    def _of_history(self) -> Iterable[str]:
        matches = {match["entry"]: match["count"] for match in self._query(MATCHES)}
        for step in self._query("select * from checker_history order by seq"):
            told = f"{step['kind']} {step['id']}: {step['was']} -> {step['became']}"
            if step["kind"] == "entry":
                if (times := matches.get(step["id"], 0)) != 1:
                    yield f"{told}: matched {times} times"
                if step["writer"] != step["holder"]:
                    yield f"{told}: by {step['writer']}, held by {step['holder']}"
                continue
            if step["was"] in FINAL and not (
                self.retries and step["was"] == "errored" and step["became"] == "pending"
            ):
                yield f"{told}: what is final never changes"
            is_result = step["was"] == "pending" and step["became"] in FINAL - {"superseded"}
            if is_result and step["is_lead"] and step["writer"] != step["holder"]:
                yield f"{told}: recorded by {step['writer']}, held by {step['holder']}"

    def _of_calls(
        self, spans: Mapping[str, Mapping[str, Any]], outcomes: list[dict[str, Any]]
    ) -> Iterable[str]:
        """Each claim makes at most one call, and a completed outcome made one."""
        if self.judge is None:
            return
        calls = Counter(_row_id(call.prompt) for call in list(self.judge.calls))
        attempts: Counter[str] = Counter()
        led: set[tuple[str, int, str]] = set()
        for outcome in outcomes:
            run = (outcome["subject_id"], outcome["subject_version"], outcome["scorer"])
            if outcome["queue"] != "judge" or run in led:
                continue   # outcomes that share a run share its attempts
            led.add(run)
            attempts[outcome["subject_id"]] += self._claims(run)
            if outcome["state"] == "completed" and not calls[outcome["subject_id"]]:
                yield f"{_told(outcome)}: completed, and no judge was asked"
        for row_id, count in calls.items():
            if row_id in spans and count > attempts[row_id]:
                yield f"row {row_id}: {count} calls of the judge, {attempts[row_id]} attempts"

    def _claims(self, run: tuple[str, int, str]) -> int:
        return int(self._number(
            """select coalesce(sum(claims), 0) from (
                 select max(fence) as claims from shown_outcome
                  where project_id = %s and subject_id = %s and subject_version = %s
                    and scorer = %s) as of_run""",
            self.project, *run,
        ))


def _of_ids(rows: list[dict[str, Any]]) -> Iterable[str]:
    for row_id, count in Counter(row["id"] for row in rows).items():
        if count > 1:
            yield f"row {row_id} is shown {count} times"


def _of_score_spans(
    outcome: Mapping[str, Any], spans: list[Mapping[str, Any]]
) -> Iterable[str]:
    wanted = 0 if outcome["skip_logging"] else 1
    if len(spans) != wanted:
        yield f"{_told(outcome)}: {len(spans)} score spans, not {wanted}"
    for span in spans:
        context, origin = span["context"], span["origin"]
        shown = (
            origin["id"], int(origin["_xact_id"]), context["rule_id"], context["scorer"],
            context["scorer_version"],
        )
        if shown != (
            outcome["subject_id"], outcome["subject_version"], outcome["origin_id"],
            outcome["scorer"], outcome["scorer_version"],
        ):
            yield f"{_told(outcome)}: its score span names {shown}"
        scores = {score["name"]: score["score"] for score in outcome["scores"] or []}
        if (span["scores"] or {}) != scores:
            yield f"{_told(outcome)}: its score span shows {span['scores']}, not {scores}"


def _of_shown(
    row_id: str, row: Mapping[str, Any], expected: Mapping[str, Mapping[Any, Any]]
) -> Iterable[str]:
    """`expected` maps a score's name to the values that current outcomes of the row give it, by
    the version of the content and the number of the use."""
    by, scores = row["computed_by"] or {}, row["computed_scores"] or {}
    if not by.keys() == scores.keys() == expected.keys():
        yield f"row {row_id} shows the scores {sorted(scores)}, not {sorted(expected)}"
        return
    for name, values in expected.items():
        source = by[name]["version"], by[name]["use"]
        if source not in values:
            yield f"row {row_id} shows a {name} of no present outcome"
        elif scores[name] != values[source]:
            yield f"row {row_id} shows another {name} than its outcome"


def _key(outcome: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(
        outcome[name]
        for name in ("subject_id", "subject_version", "origin_kind", "origin_id", "role",
                     "scorer", "scorer_version")
    )


def _number(outcome: Mapping[str, Any]) -> tuple[int, int, int]:
    """What the tables know an outcome by."""
    return outcome["subject_seq"], outcome["subject_version"], outcome["use_no"]


def _number_shown(score_span: Mapping[str, Any]) -> tuple[int, int, int]:
    """That of the outcome which a score span shows."""
    return score_span["scored_seq"], score_span["scored_version"], score_span["scored_use"]


def _told(outcome: Mapping[str, Any]) -> str:
    return (
        f"outcome ({outcome['scorer']} of {outcome['subject_id']}, "
        f"version {outcome['subject_version']}, {outcome['state']})"
    )


def _is_score_span(row: Mapping[str, Any]) -> bool:
    return (row["span_attributes"] or {}).get("purpose") == "scorer"


def _is_finished(row: Mapping[str, Any]) -> bool:
    return (row["metrics"] or {}).get("end") is not None


def _fits(row: Mapping[str, Any], content: Mapping[str, Any]) -> bool:
    return all(
        json.dumps(row[name]) == json.dumps(content[name])
        for name in ("input", "output", "expected") if name in content
    )


def _row_id(prompt: str) -> str:
    """The id of the row that a judge was asked about. The row's input contains it as `<id>`."""
    return prompt.partition("<")[2].partition(">")[0]
