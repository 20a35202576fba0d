"""Which rows a job takes: counted and selected on PostgreSQL, against a look at every row."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from store_behaviours.scoring import ended
from stored_world import StoredWorld

import store.rescore.selection
from btql.closure import compile_filter
from btql.parse import parse_filter
from flows.rescore.jobs import NewJob
from rules.model import Rule, ScorerChoice
from rules.planning import plan
from rules.rescore.model import Action, JobScorer, JobState, Only, RescoreJob, Selection
from rules.rescore.selection_count import SelectionCount
from rules.rescore.wire import read_rescore, request_json, selection_of
from rules.sampling import is_sampled
from spans.errors import BadInput
from spans.ids import RuleId
from spans.json import JsonObject
from spans.queues import HEAVY
from spans.row import is_finished, is_made_by_scorer, project_logs
from spans.scoring import Reason, ScorerRef
from store.rescore.jobs import StoredJobs
from store.rescore.selection import (
    LOOKED_MIN,
    PAGE_S,
    JobSelection,
    next_page,
    share_of_heads,
)

pytestmark = pytest.mark.every_postgres

ROWS = 240
PAGE = 50
"""Heads of a page: a job of all rows has some ten pages."""

FIRST_DAY = datetime(2026, 3, 1, tzinfo=UTC)
STATES = ("pending", "completed", "skipped", "errored", "superseded")
LEVENSHTEIN = JobScorer(
    scorer=ScorerRef(kind="global", name="Levenshtein", version="2"), queue=HEAVY
)
CHECK = JobScorer(
    scorer=ScorerRef(kind="function", name=str(uuid.UUID(int=5)), version="7"), queue=HEAVY,
    label="check",
)
BOTH = (LEVENSHTEIN, CHECK)
NAMES = (frozenset({"Levenshtein"}), frozenset({"check", "check also"}))


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A row, an outcome of which is stored."""

    kind: str
    name: str
    version: str
    role: str
    state: str
    error_class: str | None
    finished_at: datetime | None


class SelectionWorld:
    """A project whose rows are of every sort, and a look at each of them in Python."""

    def __init__(self, stored: StoredWorld) -> None:
        self.stored = stored
        self.jobs = StoredJobs(stored.database)
        self.selection = JobSelection(stored.database, looked_max=PAGE)
        self.random = random.Random(5)
        self.project_id = stored.where.project_id
        self.log()
        self.add_outcomes()
        self.seqs = dict(stored.rows(
            "select id, span.seq from span join object using (object_no) where project_id = %s",
            self.project_id,
        ))
        self.ids = {seq: row_id for row_id, seq in self.seqs.items()}
        self.rows = stored.shown()
        self.heads = {
            seq: (has_base, content_xact, created) for seq, has_base, content_xact, created
            in stored.rows(
                """select head.seq, has_base, content_xact, created from span_head head
                     join span using (seq) join object on object.object_no = head.object_no
                    where project_id = %s""",
                self.project_id,
            )
        }
        self.outcomes: dict[int, list[Asked]] = {}
        for seq, kind, name, version, role, state, error_class, finished_at in stored.rows(
            """select subject_seq, scorer_kind, scorer, scorer_version, role, state,
                      error_class, finished_at
                 from shown_outcome join span_head head on head.seq = subject_seq
                where project_id = %s and subject_version = head.content_xact""",
            self.project_id,
        ):
            self.outcomes.setdefault(seq, []).append(Asked(
                kind=kind, name=name, version=version, role=role, state=state,
                error_class=error_class, finished_at=finished_at,
            ))

    def log(self) -> None:
        """Rows of many hours and a few traces: some unfinished, deleted, or with no base."""
        draw = self.random
        events: list[JsonObject] = []
        for number in range(ROWS):
            moment = FIRST_DAY + timedelta(hours=draw.randrange(200))
            more: JsonObject = {
                "created": moment.isoformat(), "root_span_id": f"trace{draw.randrange(60)}",
                "span_id": f"span{number}", "input": "x" * draw.randrange(200),
                "metadata": {"tier": draw.choice(["gold", "free"]), "n": number},
                "span_attributes": {"name": draw.choice(["chat", "tool"])},
            }
            if draw.random() < 0.2:
                more["scores"] = {draw.choice(["Levenshtein", "check also", "other"]): 0.5}
            if draw.random() < 0.1:
                more["span_attributes"] = {"type": "score"}
            if draw.random() < 0.15:
                more["span_parents"] = ["span0"]
            row = ended(f"row{number}", **more)
            if draw.random() < 0.1:
                row["metrics"] = {"start": 1}
            events.append(row)
        self.stored.rule()
        self.stored.write(*events)
        self.stored.match()   # so that there are score spans
        merges = [f"row{number}" for number in range(0, ROWS, 17)]
        self.stored.write(
            *({"id": one, "_is_merge": True, "output": "changed"} for one in merges),
            *({"id": f"row{number}", "_object_delete": True} for number in range(5, ROWS, 31)),
            {"id": "alone", "_is_merge": True, "metrics": {"end": 2}},
        )

    def add_outcomes(self) -> None:
        """Outcomes of both scorers by several versions, origins and roles, in every state."""
        cursor = self.stored.rows
        uses = {
            (scorer.kind, scorer.name, version, role): cursor(
                """insert into scorer_use (origin_kind, origin_id, role, scorer_kind, scorer,
                                           scorer_version)
                   values ('rule', %s, %s, %s, %s, %s) returning use_no""",
                uuid.uuid4(), role, scorer.kind, scorer.name, version,
            )[0][0]
            for scorer in (LEVENSHTEIN.scorer, CHECK.scorer)
            for version in ("1", "2", "7") for role in ("live", "shadow")
        }
        heads = cursor(
            """select head.seq, content_xact, head.object_no from span_head head
                 join object using (object_no) where project_id = %s""", self.project_id,
        )
        for seq, version, object_no in heads:
            for use_no in self.random.sample(sorted(uses.values()), 3):
                state = self.random.choice(STATES)
                self.stored.rows(
                    """insert into outcome (subject_seq, subject_version, use_no, object_no,
                                            role, queue, state, error_class, finished_at)
                       select %s, %s, use_no, %s, role, 'held:test', %s, %s, %s
                         from scorer_use where use_no = %s returning true""",
                    seq, self.random.choice([version, version, version - 1]), object_no, state,
                    self.random.choice(["timeout", "bug"]) if state == "errored" else None,
                    None if state == "pending"
                    else FIRST_DAY + timedelta(seconds=self.random.randrange(10**6)), use_no,
                )

    # --- the look at every row

    def wanted(
        self, selection: Selection, scorers: tuple[JobScorer, ...], now: datetime,
        rule: Rule | None = None,
    ) -> list[tuple[int, int, int]]:
        """The seq, version and wants of the rows that are taken, newest first."""
        passes = compile_filter(parse_filter(selection.btql_filter), now=lambda: now)
        planned = None if rule is None else plan([rule], clock=lambda: now)[0]
        taken = []
        for row_id, row in self.rows.items():
            seq = self.seqs[row_id]
            has_base, version, created = self.heads[seq]
            if (
                not has_base or not is_finished(row) or is_made_by_scorer(row)
                or passes(row) is not True or created > now
                or (planned is not None and planned.decide(row) is not Reason.SELECTED)
                or (selection.ids is not None and row_id not in selection.ids)
                or (selection.created_from is not None and created < selection.created_from)
                or (selection.created_before and created >= selection.created_before)
                or not is_sampled(
                    self.project_id, str(row["root_span_id"]), rate=selection.sampling_rate
                )
            ):
                continue
            wants = sum(
                1 << place for place, one in enumerate(scorers)
                if self.is_wanted(seq, one, selection)
            )
            if wants:
                taken.append((created, seq, version, wants))
        taken.sort(reverse=True)
        return [(seq, version, wants) for _, seq, version, wants in taken][
            :selection.records_max
        ]

    def is_wanted(self, seq: int, one: JobScorer, selection: Selection) -> bool:
        if selection.only is None:
            return True
        mine = [
            outcome for outcome in self.outcomes.get(seq, [])
            if outcome.role == "live" and outcome.state != "superseded"
            and (outcome.kind, outcome.name) == (one.scorer.kind, one.scorer.name)
        ]
        if selection.only is Only.MISSING:
            return not mine
        ends = {"completed", "skipped"}
        if selection.only is Only.ERRORED:
            ends |= {"errored"}
        mine = [outcome for outcome in mine if outcome.state in ends]
        if not mine:
            return False
        last = max(mine, key=lambda outcome: outcome.finished_at or FIRST_DAY)
        if selection.only is Only.STALE:
            return last.version != one.scorer.version
        return last.state == "errored" and selection.error_class in (None, last.error_class)

    # --- what the store does

    def count(
        self, selection: Selection, scorers: tuple[JobScorer, ...] = BOTH,
        rule: Rule | None = None, names: tuple[frozenset[str], ...] = NAMES,
    ) -> SelectionCount:
        return self.selection.count(
            selection, scorers, names=names[:len(scorers)], rule=rule, now=datetime.now(UTC),
            timeout_s=30,
        )

    def make(
        self, request: dict[str, Any], scorers: tuple[JobScorer, ...] = BOTH
    ) -> RescoreJob:
        stored = request_json(read_rescore({"scorers": ["Levenshtein"], **request}))
        job, _ = self.jobs.make(NewJob(
            id=uuid.uuid4(), project_id=self.project_id, request=stored, request_hash=b"",
            selection=selection_of(stored, [project_logs(self.project_id)]),
            scorers=scorers, created_by="key",
        ))
        return job

    def select(self, job: RescoreJob, rule: Rule | None = None) -> None:
        while self.selection.select_some(job, rule=rule, now=datetime.now(UTC)):
            pass

    def steps(self, job: RescoreJob) -> list[tuple[int, int, int]]:
        """The rows of the job's steps, in their order."""
        found: list[tuple[int, int, int]] = []
        every = (1 << len(job.scorers)) - 1
        for number, (step_no, records, outcomes, seqs, versions, wants) in enumerate(
            self.stored.rows(
                """select step_no, records, outcomes, seqs, versions, wants from rescore_step
                    where job_no = %s order by step_no""", job.no,
            )
        ):
            bits = wants or [every] * records
            assert step_no == number
            assert 0 < records == len(seqs) == len(versions) == len(bits) <= 500
            assert outcomes == sum(each.bit_count() for each in bits)
            found += zip(seqs, versions, bits, strict=True)
        return found

    def state(self, job: RescoreJob) -> JobState:
        found = self.jobs.find(self.stored.org_id, job.id)
        assert found is not None
        return found.state


@pytest.fixture(scope="module")
def world(database_url: str) -> Iterator[SelectionWorld]:
    stored = StoredWorld(database_url, project=f"selected {uuid.uuid4()}")
    yield SelectionWorld(stored)
    stored.close()


REQUESTS: list[dict[str, Any]] = [
    {"filter": ""},
    {"filter": "metadata.tier = 'gold'"},
    {"filter": "metadata.tier = 'gold' and is_root and scores.Levenshtein < 0.9"},
    {"filter": "metadata.n > 100 or root_span_id = 'trace7'"},
    {"filter": "created > '2026-03-03T05:00:00Z' and created <= '2026-03-06'"},
    {"filter": "created < '2026-03-04' and span_attributes.name = 'chat'"},
    {"filter": "", "created_from": "2026-03-02T00:00:00Z",
     "created_before": "2026-03-05T04:00:00Z"},
    {"filter": "id in ('row1', 'row2', 'row5', 'row3', 'nobody')"},
    {"filter": "root_span_id = 'trace7'"},
    {"filter": "span_id in ('span12', 'span13', 'span14', 'span18')"},
    {"filter": "_xact_id > '1'"},
    {"filter": "_xact_id > '9000000000000000000'"},
    {"filter": "project_id is not null and log_id = 'g' and org_id is not null"},
    {"filter": "", "max_records": 41},
    {"filter": "metadata.tier = 'gold'", "max_records": 7, "only": "missing"},
    {"filter": "", "sampling_rate": 0.3},
    {"filter": "", "only": "missing"},
    {"filter": "", "only": "errored"},
    {"filter": "metadata.tier = 'free'", "only": "errored", "error_class": "timeout"},
    {"filter": "", "only": "stale"},
    {"filter": "", "only": "stale", "sampling_rate": 0.6, "max_records": 20},
    {"ids": [f"row{number}" for number in range(0, 300, 3)]},
    {"ids": ["row3", "row9", "row4"], "max_records": 2},
    {"ids": ["row3", "row9", "row4"], "only": "missing"},
]


@pytest.mark.parametrize("request_", REQUESTS, ids=str)
def test_a_job_selects_and_counts_the_rows_that_a_look_at_each_finds(
    world: SelectionWorld, request_: dict[str, Any]
) -> None:
    job = world.make(request_)

    world.select(job)

    wanted = world.wanted(job.selection, BOTH, job.created)
    assert world.steps(job) == wanted
    assert world.state(job) is JobState.RUNNING
    counted = world.count(job.selection)
    assert counted.records == len(wanted)
    for place, names in enumerate(NAMES):
        mine = [seq for seq, _, wants in wanted if wants & 1 << place]
        kept = [
            seq for seq in mine
            if any(name in (world.rows[world.ids[seq]]["scores"] or {})
                   and name in logged(world, seq) for name in names)
        ]
        assert (counted.scorers[place].records, counted.scorers[place].kept) == (
            len(mine), len(kept)
        )
    assert (counted.record_bytes > 0) is bool(wanted)
    # All of these find something but the one whose version nothing has.
    assert bool(wanted) is ("90000" not in str(request_))


@pytest.mark.parametrize("request_", REQUESTS, ids=str)
def test_a_count_that_reads_whole_tables_counts_the_same(
    world: SelectionWorld, request_: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    selection = world.make(request_).selection
    by_pages = world.count(selection)
    monkeypatch.setattr(store.rescore.selection, "REST_SHARE", 0.0)
    world_of_rest = JobSelection(world.stored.database, looked_max=PAGE, rest_after=60)

    at_once = world_of_rest.count(
        selection, BOTH, names=NAMES, rule=None, now=datetime.now(UTC), timeout_s=30
    )

    assert at_once.records == by_pages.records
    assert at_once.scorers == by_pages.scorers
    assert at_once.unknown == by_pages.unknown


def test_the_share_of_an_object_is_that_of_the_sampled_heads(world: SelectionWorld) -> None:
    ((object_no, share),) = world.stored.rows(
        """select object_no, count(*)::float8 / (select count(*) from span_head)
             from span_head join object using (object_no) where project_id = %s group by 1""",
        world.project_id,
    )
    with world.stored.database.cursor() as cursor:
        found = share_of_heads(cursor, object_no)
        none = share_of_heads(cursor, 0)

    assert found == pytest.approx(share, rel=0.5)
    assert none == 0


def logged(world: SelectionWorld, seq: int) -> dict[str, object]:
    ((scores,),) = world.stored.rows("select logged_scores from span where seq = %s", seq)
    return {name: value for name, value in (scores or {}).items() if value is not None}


def test_ids_without_a_row_that_has_ended_are_counted_by_what_they_lack(
    world: SelectionWorld,
) -> None:
    asked = [*(f"row{number}" for number in range(ROWS)), "nobody", "alone"]
    counted = world.count(world.make({"ids": asked}).selection)

    rows = {row_id: row for row_id, row in world.rows.items() if row_id in asked}
    made = [one for one in rows.values() if is_made_by_scorer(one)]
    unfinished = [
        row for row_id, row in rows.items()
        if not is_made_by_scorer(row) and not (is_finished(row) and row_id != "alone")
    ]
    assert counted.unknown == len(asked) - len(rows) > 1
    assert counted.made_by_scorers == len(made) > 1
    assert counted.unfinished == len(unfinished) > 1
    assert counted.records == len(rows) - len(made) - len(unfinished)


def rule_of(**fields: Any) -> Rule:
    whole = Rule(
        id=RuleId(uuid.UUID(int=3)), project_id=project_logs(uuid.UUID(int=1)).project_id,
        name="r", created=FIRST_DAY, sampling_rate=1.0,
        scorers=(ScorerChoice(kind="global", name="Levenshtein"),),
    )
    return replace(whole, **fields)


@pytest.mark.parametrize("rule", [
    rule_of(),
    rule_of(apply_to_root_span=True),
    rule_of(apply_to_span_names=("tool", "none")),
    rule_of(apply_to_root_span=True, apply_to_span_names=("tool",),
            btql_filter="metadata.tier = 'gold'"),
], ids=str)
def test_the_target_and_the_filter_of_a_rule_count(world: SelectionWorld, rule: Rule) -> None:
    job = world.make({"rule_id": str(rule.id), "filter": "metadata.n < 150"})

    world.select(job, rule)

    wanted = world.wanted(job.selection, BOTH, job.created, rule)
    assert world.steps(job) == wanted
    assert world.count(job.selection, rule=rule).records == len(wanted) > 10


def test_a_job_whose_rule_is_gone_or_whose_rule_has_a_broken_filter_fails(
    world: SelectionWorld,
) -> None:
    for rule, why in (None, "is gone"), (rule_of(btql_filter="metadata.n ="), "has an error"):
        job = world.make({"rule_id": str(rule_of().id)})
        with pytest.raises(BadInput, match=why):
            world.count(job.selection, rule=rule)
        world.select(job, rule)
        failed = world.jobs.find(world.stored.org_id, job.id)
        assert failed is not None
        assert failed.state is JobState.FAILED
        assert why in (failed.failure or "")


def test_a_selection_that_is_killed_between_and_within_pages_goes_on_where_it_was(
    world: SelectionWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = world.make({"filter": ""})
    add_steps = store.rescore.selection._add_steps
    kills = iter([False, True, True, False, True, False, True])

    def killed_after(*args: Any) -> None:
        add_steps(*args)
        if next(kills, False):
            raise KeyboardInterrupt

    monkeypatch.setattr(store.rescore.selection, "_add_steps", killed_after)
    for _ in range(8):
        with suppress(KeyboardInterrupt):
            # A new process knows nothing of what the one before it did.
            JobSelection(world.stored.database, looked_max=PAGE).select_some(
                job, rule=None, now=datetime.now(UTC)
            )
    assert world.state(job) is JobState.PLANNED
    world.select(job)

    assert world.steps(job) == world.wanted(job.selection, BOTH, job.created)


def test_nothing_is_selected_while_another_holds_the_job_or_it_is_paused(
    world: SelectionWorld,
) -> None:
    job = world.make({"filter": ""})
    with world.stored.database.cursor() as cursor:
        cursor.execute("select from rescore_job where job_no = %s for update", (job.no,))
        assert not world.selection.select_some(job, rule=None, now=datetime.now(UTC))
    assert world.selection.select_some(job, rule=None, now=datetime.now(UTC))
    world.jobs.act(job.id, Action.PAUSE)
    assert not world.selection.select_some(job, rule=None, now=datetime.now(UTC))
    world.jobs.act(job.id, Action.RESUME)
    world.select(job)

    assert world.steps(job) == world.wanted(job.selection, BOTH, job.created)


def test_rows_that_are_created_after_the_job_are_not_taken(world: SelectionWorld) -> None:
    job = world.make({"filter": ""})
    before = world.count(job.selection).records
    late = (job.created + timedelta(hours=1)).isoformat()
    world.stored.write(ended("late", created=late))

    world.select(job)

    assert world.steps(job) == world.wanted(job.selection, BOTH, job.created)
    assert world.count(job.selection).records == before


def test_a_filter_that_takes_too_long_says_what_to_do(world: SelectionWorld) -> None:
    selection = world.make({"filter": "output MATCH 'sitting'"}).selection
    with pytest.raises(BadInput, match=r"could not be counted in 1e-06 s: add a bound"):
        world.selection.count(
            selection, BOTH, names=NAMES, rule=None, now=datetime.now(UTC), timeout_s=1e-6
        )


def test_a_job_whose_smallest_page_is_too_slow_fails_and_says_why(
    world: SelectionWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = " and ".join(f"concat(input, output, '{n}') MATCH 'absent {n}'" for n in range(40))
    job = world.make({"filter": f"not ({slow})"})
    monkeypatch.setattr(store.rescore.selection, "PAGE_TIMEOUT_S", 0.001)

    world.select(job)

    failed = world.jobs.find(world.stored.org_id, job.id)
    assert failed is not None
    assert failed.state is JobState.FAILED
    assert "its filter takes longer than 0.001 s on 50 rows" in (failed.failure or "")
    assert failed.finished_at is not None
    assert world.steps(job) == []


def test_a_page_looks_at_fewer_heads_after_a_slow_one_and_at_more_after_a_fast_one() -> None:
    assert next_page(1000, PAGE_S) == 1000
    assert next_page(1000, 2 * PAGE_S) == 500
    assert next_page(1000, PAGE_S / 2) == 2000
    assert next_page(1000, 0.0) == 4000      # not at once, as one fast page may be chance
    assert next_page(100, 100.0) == LOOKED_MIN
