"""Each statement finds its rows by a key or follows an index, whatever the planner believes.

The statements are those that the stores send. Each is explained as it is sent: on an empty
database; after two large projects were added, of which the planner knows nothing, with the
plans that were made when all was empty, and with new ones; and after ANALYZE.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from bulk_rows import add_others, add_project
from explained import Look, Plans
from sqlalchemy import make_url
from store_behaviours.automations import fields, written
from store_behaviours.deliveries import a_report
from store_behaviours.scoring import CHEAP, LIMITS, NOTHING_IS_CHEAP, record, retry

from automations.delivery import DeliveryState
from automations.model import WebhookAction
from automations.outbound.request_end import RequestEnd
from automations.schedule import Delivered, GivenUp, TryAgainIn
from automations.windows import Report
from btql.query import parse_query
from btql.tree import TRUE
from btql.wire import read_filter
from flows.access.projects import ListPage
from flows.automations.deliveries import NewTest, RedeliveryRange, refusal_of
from flows.automations.evaluate import Evaluator
from flows.automations.history import DeliveryEntry, read_history
from flows.budgets.budgets import NewBudget
from flows.logs.fetch import FetchRequest, TracePlace
from flows.logs.ingest import IngestRequest
from flows.logs.rejections import RejectedRow
from flows.rescore.jobs import NewJob
from flows.rescore.report import report_on
from flows.rescore.run import decide
from flows.scoring.claims import RunnableClaim
from flows.scoring.match import Matcher
from rules.budgets.model import Caps, Period, SubjectKind
from rules.budgets.reserve import CallAsk, Refusal, Reservation, whole
from rules.rescore.model import Action, JobScorer
from rules.rescore.pace import Begin
from rules.rescore.wire import read_rescore, request_json, selection_of
from rules.wire import read_rule
from scorers import catalog
from scorers.catalog import GLOBAL
from scorers.run.trace import TraceRef
from spans.clock import system_clock
from spans.errors import JudgeUnavailable
from spans.event import read_event
from spans.ids import AutomationId, DeliveryId, ObjectId, OrgId, ProjectId, RuleId, Xact
from spans.json import JsonObject
from spans.queues import HEAVY, JUDGE
from spans.repair.values import BodyText
from spans.resends import IngestAnswer, Resend, ResendName
from spans.row import ObjectRef, ObjectType
from spans.scoring import ScorerRef
from spans.work import BudgetHold, Hold, PutOff
from store.access.projects import StoredProjects
from store.automations.automations import StoredAutomations
from store.automations.backlog import read_sending
from store.automations.dated_rows import DatedRows
from store.automations.deliveries import StoredDeliveries
from store.automations.due_deliveries import DueDeliveries
from store.automations.evaluations import Evaluations
from store.automations.looks import Looks
from store.automations.states import disable, end_notification, set_due
from store.budgets.budgets import StoredBudgets, read_budget_measures
from store.budgets.held import HeldOutcomes
from store.budgets.purses import StoredPurses
from store.logs.change_feed import ChangeFeed
from store.logs.fetch import SpanReader
from store.logs.ingest import SpanWriter
from store.logs.traces import Traces
from store.outcomes.explain import ExplainRecords
from store.postgres.database import Database
from store.postgres.leases import Leases
from store.rescore.jobs import StoredJobs
from store.rescore.past_outcomes import StoredPastOutcomes
from store.rescore.reports import JobRecords
from store.rescore.rollback import Rollbacks
from store.rescore.selection import JobSelection
from store.rescore.steps import StoredSteps
from store.retention import Retention, Upkeep
from store.rules.rules import StoredRules
from store.scoring.circuits import Circuits
from store.scoring.ledger import Ledger
from store.scoring.match_records import MatchRecords
from store.scoring.queues import read_queue_depths, read_waiting

pytestmark = pytest.mark.every_postgres

ROWS = 20_000
"""Logged rows of each large project. Each has a score span, an outcome and a match record."""

OTHERS = 1_000
"""Objects and uses of scorers beside those of the projects."""

MOST = 5_000
"""The most rows that a part of a plan may look at, where a hundred are asked for."""

BATCH = 100
LONG_AGO = "1990-01-01T00:00:00Z"
LEASE_S = 60.0
numbers = itertools.count()


class Service:
    """What the API and the workers do with one project, over one connection."""

    def __init__(self, url: str, plans: Plans) -> None:
        self.unwatched = Database(url)
        self.database = Database(url)
        plans.watch(self.database)
        self.writer = SpanWriter(self.database, system_clock, resend_minutes=60)
        self.reader = SpanReader(self.database, system_clock, query_timeout_s=60)
        self.records = MatchRecords(self.database, system_clock, lease_s=LEASE_S)
        self.ledger = Ledger(self.database, system_clock, lease_s=LEASE_S, time_limits_s={})

    def use(self, project: uuid.UUID, org: uuid.UUID) -> None:
        """Log, score and read in a project as clients do."""
        self.org_id = OrgId(org)
        self.project_id = ProjectId(project)
        self.where = ObjectRef(self.project_id, ObjectType.PROJECT_LOGS, ObjectId(project))
        body = read_rule({
            "name": "close", "score_type": "online",
            "config": {"online": {
                "sampling_rate": 1, "scorers": [{"type": "global", "name": "Levenshtein"}],
            }},
        })
        StoredRules(self.database).create_rule(
            self.project_id, RuleId(uuid.uuid4()), body, replace=True
        )
        self.score()
        self.write_again()
        self.fetch()
        self.query()
        self.follow_and_explain()
        self.evaluate()
        self.deliver()
        self.select_for_jobs()
        self.report_and_roll_back()
        self.run_jobs()
        self.tidy_up()

    def report_and_roll_back(self) -> None:
        """Report on a job with one step, whose scores stand on its rows, and roll it back."""
        request = request_json(read_rescore({"filter": "", "scorers": ["Levenshtein"]}))
        levenshtein = ScorerRef(kind="global", name="Levenshtein", version="1")
        job, _ = StoredJobs(self.database).make(NewJob(
            id=uuid.uuid4(), project_id=self.project_id, request=request, request_hash=b"",
            selection=selection_of(request, [self.where]), created_by=None,
            scorers=(JobScorer(scorer=levenshtein, queue=HEAVY),),
        ))
        object_no = self.database.numbers.object_no(self.where)
        use_no = self.database.numbers.use_no(job.requests()[0].use)
        given = {
            "job": job.no, "object": object_no, "most": BATCH,
            "by": f'{{"use": {use_no}, "generation": {job.no}, "version": ',
        }
        with self.unwatched.cursor() as cursor:
            cursor.execute(
                """insert into rescore_step (job_no, step_no, object_no, records, outcomes,
                                             seqs, versions)
                   select %(job)s, 0, %(object)s, %(most)s, %(most)s,
                          array_agg(seq), array_agg(content_xact)
                     from (select seq, content_xact from span_head
                            where object_no = %(object)s and computed_by is not null
                            order by seq desc limit %(most)s) latest""",
                given,
            )
            cursor.execute(
                """insert into replaced_score (subject_seq, job_no, name, score, by)
                   select seq, %(job)s, name, score, head.computed_by -> name
                     from rescore_step, unnest(seqs) as asked(seq)
                    cross join lateral (
                      select computed_scores, computed_by from span_head
                       where span_head.object_no = %(object)s
                         and span_head.seq = asked.seq offset 0) head
                    cross join lateral jsonb_each(computed_scores) as one(name, score)
                    where job_no = %(job)s and step_no = 0 and computed_by ? name""",
                given,
            )
            cursor.execute(
                """update span_head set computed_by = (
                     select jsonb_object_agg(
                              key, (%(by)s || (value ->> 'version') || '}')::jsonb)
                       from jsonb_each(computed_by))
                     from rescore_step, unnest(seqs) as asked(seq)
                    where job_no = %(job)s and step_no = 0
                      and span_head.object_no = %(object)s and span_head.seq = asked.seq""",
                given,
            )
            cursor.execute(
                """update rescore_job set state = 'completed', next_step = 1,
                          rollback_at = now() where job_no = %(job)s""",
                given,
            )
        report_on(JobRecords(self.database), job)
        rollbacks = Rollbacks(self.database)
        assert rollbacks.next_step(job.no).restored > 0
        assert rollbacks.next_step(job.no).is_last

    def score(self) -> None:
        for cost_limit in (CHEAP, NOTHING_IS_CHEAP):
            self.write(*(ended(f"new{next(numbers)}") for _ in range(BATCH)))
            self.match(cost_limit)
        claims = [
            claim for claim in self.ledger.claim(HEAVY, BATCH)
            if isinstance(claim, RunnableClaim)
        ]
        self.ledger.renew(HEAVY)
        record(self, *claims[:-2])
        self.ledger.give_back(claims[-2:-1])
        self.ledger.postpone([retry(claim, 0) for claim in claims[-1:]])
        self.hold_back()
        self.spend()
        leases = Leases(self.database, lease_s=LEASE_S)
        leases.release_abandoned()
        leases.release_own(HEAVY)

    def hold_back(self) -> None:
        """Have outcomes wait for a judge that is down, and bring them back."""
        self.write(*(ended(f"new{next(numbers)}") for _ in range(BATCH)))
        self.match(NOTHING_IS_CHEAP)
        claims = [
            claim for claim in self.ledger.claim(HEAVY, BATCH)
            if isinstance(claim, RunnableClaim)
        ]
        self.ledger.put_off([PutOff(claim=one, wait_s=0) for one in claims[:2]])
        circuits = Circuits(self.database, budget_s=0, wait_max_s=0)
        circuits.open("default", JudgeUnavailable("503"), wait_s=0)
        self.ledger.hold([Hold(claim=one, endpoint="default", wait_s=60) for one in claims])
        circuits.begin_probe("default", wait_s=0)
        circuits.put_back_probe("default")
        circuits.tend(["default"])
        read_waiting(self.database)
        read_queue_depths(self.database)
        circuits.close("default")
        record(self, *(
            claim for claim in self.ledger.claim(JUDGE, BATCH)
            if isinstance(claim, RunnableClaim)
        ))

    def spend(self) -> None:
        """Reserve and settle calls, have outcomes wait for budgets, and bring them back."""
        budgets, purses = StoredBudgets(self.database), StoredPurses(self.database)
        held = HeldOutcomes(self.database)
        subjects = {uuid.UUID(str(self.project_id)): SubjectKind.PROJECT,
                    uuid.uuid4(): SubjectKind.RULE}
        for subject, kind in subjects.items():
            for period in Period:
                put, _ = budgets.put(NewBudget(
                    new_id=uuid.uuid4(), project_id=self.project_id, subject_kind=kind,
                    subject_id=subject, period=period, caps=Caps(calls=BATCH),
                    created_by="key",
                ))
        asks = [CallAsk(subjects=frozenset(subjects), money=1)] * (BATCH + 1)
        *reserved, refused = purses.transact([], asks)
        assert isinstance(refused, Refusal)
        self.write(*(ended(f"new{next(numbers)}") for _ in range(BATCH)))
        self.match(NOTHING_IS_CHEAP)
        self.ledger.hold_for_budget([
            BudgetHold(claim=claim, budget_no=refused.budget_no, reason=refused.reason)
            for claim in self.ledger.claim(HEAVY, BATCH)
            if isinstance(claim, RunnableClaim)
        ])
        held.release_some(BATCH)
        budgets.statuses(self.project_id)
        read_budget_measures(self.database)
        purses.transact(
            [whole(one) for one in reserved if isinstance(one, Reservation)], []
        )
        purses.capped()
        budgets.find(self.org_id, put.id)
        for status in budgets.statuses(self.project_id):
            budgets.delete(status.budget.id)
        held.release_some(BATCH)
        record(self, *(
            claim for claim in self.ledger.claim(HEAVY, BATCH)
            if isinstance(claim, RunnableClaim)
        ))

    def write_again(self) -> None:
        merges = [
            {"id": f"row{n}", "_is_merge": True, "output": f"other {next(numbers)}"}
            for n in range(20, 20 + BATCH)
        ]
        self.write(*map(ended, (f"row{n}" for n in range(10))))
        self.write(*merges, {"id": "row1", "_object_delete": True})
        self.write({"id": f"child{next(numbers)}", "_parent_id": "row2", "input": "x"})
        self.match(CHEAP)
        self.write(ended("row2", "another"))
        self.match(NOTHING_IS_CHEAP)

    def fetch(self) -> None:
        first = self.page()
        self.page(cursor=first.cursor)
        row = first.rows[-1]
        place = TracePlace(Xact(int(str(row["_xact_id"]))), str(row["root_span_id"]))
        self.page(after=place)
        self.page(after=TracePlace(Xact(place.xact - 20), ""))
        self.page(cursor=f"s{max(1, int(str(row['_pagination_key'])[1:]) - 500)}")
        for condition in ("id = 'row3'", "root_span_id = 'trace3'", "metadata.tier = 'gold'"):
            self.page(condition=condition)
            self.page(condition=condition, cursor=first.cursor)

    def query(self) -> None:
        newest = self.page().rows[0]
        version = int(str(newest["_xact_id"]))
        key = int(str(newest["_pagination_key"])[1:])
        late = "2026-06-01T00:10:00Z"
        for clauses in (
            "limit: 100",
            "sort: _xact_id desc", "sort: _xact_id", "sort: created desc", "sort: created",
            "sort: _pagination_key", "sort: scores.Levenshtein desc",
            "filter: is_root | sort: scores.Levenshtein", "sort: scores.absent | limit: 9",
            "filter: scores.Levenshtein < 0.1 | sort: scores.Levenshtein desc",
            "filter: scores.Levenshtein > 1e10 | sort: scores.Levenshtein",
            "filter: scores.absent is not null | sort: scores.absent",
            "filter: id = 'row4'", "filter: id IN ('row4', 'row5', 'nobody')",
            "filter: span_id = 'span4'", "filter: root_span_id = 'trace4' | sort: output",
            "filter: metadata.tier = 'gold' and is_root",
            f"filter: _xact_id > '{version - 10}' and metadata.user = 'u13'",
            f"filter: _xact_id > '{version - 10}' and metadata.user = 'nobody'",
            f"filter: _pagination_key > 'p{max(0, key - 300):020}' | sort: metadata.user",
            "filter: created > '2026-06-01T00:00:00Z'"
            f" and created <= '{late}' and metadata.user = 'nobody'",
            f"filter: created <= '{late}' and created > '2026-06-01T00:09:00Z' | sort: output",
        ):
            self.pages_of(f"{clauses} | limit: 100" if "limit" not in clauses else clauses)

    def follow_and_explain(self) -> None:
        feed = ChangeFeed(self.database)
        feed.changes(self.project_id, Xact(0), BATCH)
        feed.changes(self.project_id, Xact(feed.now() - 4), BATCH)
        explained = ExplainRecords(self.database, self.records)
        for text in ("row6", "span6", f"new{next(numbers) - 1}"):
            for candidate in explained.candidates(self.org_id, None, text):
                subject = explained.subject(candidate)
                explained.match_record(subject)
                explained.outcomes(subject)
        for project_id in (self.project_id, None):
            explained.rejected_parts(self.org_id, project_id, ["lost", "row6"])
            self.reader.rejected(self.org_id, project_id, BATCH)
        Traces(self.database).spans_of(TraceRef(where=self.where, root_span_id="trace9"))
        dated = DatedRows(self.database)
        newest = next(dated.newest(self.where, frozenset({"input", "scores"})))
        dated.scored_at([row.seq for row in newest])

    def evaluate(self) -> None:
        """Begin to watch, count what is new, what changes and what goes, and be due later."""
        automations = StoredAutomations(self.database)
        (watching, _), _ = automations.put_automations(
            self.project_id,
            [fields(f"n{next(numbers)}", btql_filter=text) for text in ("", "tags = 'x'")],
            lambda each, _: written(each), created_by="key", replace=True,
        )
        evaluator = Evaluator(
            store=Looks(self.database, app_url=""), ring=lambda: None,
            new_id=lambda _: uuid.uuid4(),
        )

        def look() -> None:
            evaluator.evaluate_all(seconds=lambda: 0.0, stop_after_s=1)

        look()
        rows = [f"watched{next(numbers)}" for _ in range(BATCH)]
        self.write(*map(ended, rows))
        look()
        self.write(*(ended(row, "again") for row in rows))
        self.write({"id": rows[0], "_object_delete": True})
        look()
        with self.database.cursor() as cursor:
            cursor.execute(
                """select delivery_id, automation_no, started_at
                     from automation join automation_state using (automation_no)
                    where automation.project_id = %s and delivery_id is not null""",
                (self.project_id,),
            )
            for delivery_id, number, at in cursor.fetchall():
                report = Report(time_start=at, time_end=at, matches=1, first_at=at)
                end_notification(
                    cursor, delivery_id, number, report, delivered=False, now=at
                )
                set_due(cursor, [number], at)
                disable(cursor, number, "a reason", url="https://example.com/")
        look()
        self.tell_history(watching.id)

    def tell_history(self, automation_id: AutomationId) -> None:
        store = Evaluations(self.database)
        told = read_history(store, automation_id, limit=BATCH, cursor=None)
        assert told is not None
        sent = [each.id for each in told.entries if isinstance(each, DeliveryEntry)]
        store.looks(automation_id, 1_000_000, BATCH)
        store.deliveries(automation_id, sent[0], BATCH)

    def deliver(self) -> None:
        """Send what is due, show it, send it again, and test."""
        deliveries, queue = StoredDeliveries(self.database), DueDeliveries(
            self.database, lease_s=LEASE_S
        )
        test = NewTest(
            id=DeliveryId(uuid.uuid4()), project_id=self.project_id, automation_id=None,
            action=WebhookAction(url=f"https://example.com/{next(numbers)}"), secret=None,
            authorization=None, body=b"{}", report=a_report(),
        )
        deliveries.add_test(test, per_minute=1_000_000)
        automations = StoredAutomations(self.database)
        page = ListPage(limit=BATCH)
        with self.database.cursor() as cursor:
            cursor.execute(
                """update automation_state set is_active = true where automation_no in (
                     select automation_no from automation where project_id = %s)""",
                (self.project_id,),
            )
        assert queue.is_waiting()
        claims = queue.claim(BATCH).claims
        queue.renew()
        for number, claim in enumerate(claims):
            failed = RequestEnd(status=500, error_class="http_status", error_message="no")
            end, then = (
                (RequestEnd(status=204), Delivered()), (failed, TryAgainIn(0.0)),
                (failed, GivenUp()),
            )[number % 3]
            queue.record(claim, end, then)
        queue.release()
        for automation in automations.list_automations(self.org_id, page, self.project_id):
            wanted = RedeliveryRange(
                since=datetime.min.replace(tzinfo=UTC), until=datetime.max.replace(tzinfo=UTC),
                states=frozenset(DeliveryState),
            )
            found = deliveries.notifications_between(automation.id, wanted, BATCH)
            deliveries.redeliver(found, refusal_of)
            deliveries.list_of_automation(self.org_id, page, automation.id)
        listed = deliveries.list_of_project(self.org_id, page, self.project_id)
        deliveries.find_delivery(self.org_id, listed[0].id)
        read_sending(self.database)

    def select_for_jobs(self) -> None:
        """Plan jobs, and select the rows of their first pages."""
        jobs, selection = StoredJobs(self.database), JobSelection(
            self.database, looked_max=4 * BATCH
        )
        version = int(str(self.page().rows[0]["_xact_id"]))
        for asked in (
            {"filter": ""},
            {"filter": "metadata.tier = 'gold' and scores.Levenshtein < 2"},
            {"filter": "metadata.user = 'u13'", "sampling_rate": 0.5},
            {"filter": "created > '2026-06-01' and created <= '2026-06-01T00:10:00Z'"},
            {"filter": f"_xact_id > '{version - 10}'"},
            {"filter": "root_span_id = 'trace4' or root_span_id = 'trace5'"},
            {"filter": "root_span_id in ('trace4', 'trace5')"}, {"filter": "span_id = 'span4'"},
            {"ids": ["row6", "row7", "nobody"]},
            {"filter": "", "only": "missing"}, {"filter": "", "only": "errored"},
            {"filter": "is_root", "only": "stale"},
        ):
            body = read_rescore({"scorers": ["Levenshtein"], "max_records": BATCH, **asked})
            request = request_json(body)
            chosen = selection_of(request, [self.where])
            scorer = JobScorer(
                scorer=ScorerRef(kind="autoevals", name="Levenshtein", version="2"), queue=HEAVY
            )
            job, _ = jobs.make(NewJob(
                id=uuid.uuid4(), project_id=self.project_id, request=request, request_hash=b"",
                selection=chosen, scorers=(scorer,), created_by="key",
            ))
            for _ in range(2):
                selection.select_some(job, rule=None, now=system_clock())
            StoredPastOutcomes(self.database).past(self.project_id, [self.where], [scorer])
            # One that selects nothing would look at all rows of the project.
            if asked.get("only") not in {"missing", "errored"}:
                selection.count(
                    chosen, [scorer], names=[frozenset({"Levenshtein"})], rule=None,
                    now=system_clock(), timeout_s=60,
                )

    def run_jobs(self) -> None:
        """Run the slices of jobs, do all that may be done with a job, and roll one back."""
        jobs, steps = StoredJobs(self.database), StoredSteps(self.database, system_clock)
        selection, rollbacks = JobSelection(self.database), Rollbacks(self.database)
        ids = [f"job{next(numbers)}" for _ in range(BATCH)]
        self.write(*map(ended, ids))
        self.match(CHEAP)
        request = request_json(read_rescore({"ids": ids, "scorers": ["Levenshtein"]}))
        scorer = JobScorer(
            scorer=ScorerRef(
                kind=GLOBAL, name="Levenshtein", version=catalog.installed_version()
            ),
            queue=HEAVY,
        )
        for cost_limit, last in (
            (CHEAP, Action.ROLLBACK), (NOTHING_IS_CHEAP, Action.CANCEL),
        ):
            job, _ = jobs.make(NewJob(
                id=uuid.uuid4(), project_id=self.project_id, request=request, request_hash=b"",
                selection=selection_of(request, [self.where]), scorers=(scorer,),
                created_by="key", probe=BATCH, max_per_second=1e5,
            ))
            while steps.standing(job.no) is None:
                selection.select_some(job, rule=steps.rule(job), now=system_clock())
            steps.active()
            steps.is_live_waiting()
            one = steps.claim(job.no, Begin(BATCH // 2))
            assert one is not None
            done = decide(
                one, steps.subjects(
                    one.where, [row.seq for row in one.rows], frozenset({"output", "expected"})
                ),
                cost_limit=cost_limit,
            )
            assert steps.record(one, *done)
            steps.standing(job.no)
            jobs.act(job.id, Action.PAUSE)
            steps.active()
            steps.hold_stragglers()
            jobs.act(job.id, Action.RESUME)
            jobs.progress(job)
            if last is Action.CANCEL:
                jobs.act(job.id, last)
                steps.close_some(job.no, BATCH)
                continue
            steps.finish(job.no)
            jobs.act(job.id, last)
            while not rollbacks.next_step(job.no).is_last:
                pass
            with self.database.cursor() as cursor:
                cursor.execute(
                    "update rescore_job set finished_at = %s where job_no = %s",
                    (LONG_AGO, job.no),
                )

    def tidy_up(self) -> None:
        """Delete a project with a row, and rows that are old, as upkeep does."""
        self.write(*(ended(f"old{next(numbers)}", created=LONG_AGO) for _ in range(BATCH)))
        self.match(CHEAP)
        projects, where = StoredProjects(self.database), self.where
        short, _ = projects.get_or_create_project(
            self.org_id, ProjectId(uuid.uuid4()), f"short {next(numbers)}", None
        )
        self.where = ObjectRef(short.id, ObjectType.PROJECT_LOGS, ObjectId(short.id))
        self.write(ended("row"))
        self.where = where
        projects.delete_project(short.id)
        Upkeep(
            self.database,
            Retention(
                log_days=10_000, match_record_days=30, rejected_row_days=14, resend_minutes=60,
                invocation_days=1, judge_cache_days=1,
            ),
            system_clock,
        ).drop_expired()

    # --- each of these is one request, or one batch of a worker

    def write(self, *events: JsonObject) -> None:
        writes = tuple(
            read_event(event, self.where, LIMITS, new_id=str, body=BodyText(b""))
            for event in events
        )
        lost = RejectedRow(
            project_id=self.project_id, row_id="lost", span_id="lost", reason="why", excerpt=""
        )
        (answer,) = self.writer.write([IngestRequest(
            org_id=self.org_id, sent_by="key", writes=writes, rejected=(lost,),
            resend=Resend(name=ResendName("key", b"name"), body_hash=b"", tries=0),
        )])
        assert isinstance(answer, IngestAnswer), answer

    def match(self, cost_limit: float) -> None:
        matcher = Matcher(store=self.records, cost_limit=cost_limit)
        while matcher.match_some().rows:
            pass

    def page(self, *, condition: str | None = None, **asked: Any) -> Any:
        request = {"limit": BATCH, "cursor": None, "after": None, **asked}
        where = TRUE if condition is None else read_filter({"btql": condition})
        return self.reader.page(
            self.where, self.org_id, FetchRequest(**request, filter=where), limit=BATCH
        )

    def pages_of(self, clauses: str) -> None:
        """The first two pages of a query."""
        text = f"from: project_logs('{self.project_id}') | {clauses}"
        page = self.reader.query(
            parse_query(text), self.org_id, (self.project_id,), limit_max=1000, tz_offset=0
        )
        if page.cursor:
            self.reader.query(
                parse_query(f"{text} | cursor: '{page.cursor}'"), self.org_id,
                (self.project_id,), limit_max=1000, tz_offset=0,
            )


def ended(row_id: str, output: str = "sitting", **more: object) -> JsonObject:
    return {
        "id": row_id, "output": output, "expected": "kitten",
        "metrics": {"start": 1, "end": datetime.now(UTC).timestamp()}, **more,
    }


@pytest.fixture
def admin(fresh_database_url: str) -> Iterator[psycopg.Connection[Any]]:
    plain = make_url(fresh_database_url).set(drivername="postgresql")
    with psycopg.connect(
        plain.render_as_string(hide_password=False), autocommit=True
    ) as connection:
        for table in (
            "span", "span_head", "span_score", "outcome", "outbox", "match_record_rest",
            "scorer_use", "object", "watched_row", "version_time", "evaluation",
            "automation_state", "automation_project", "delivery", "delivery_attempt",
        ):
            # Nothing but this test gathers statistics.
            connection.execute(
                f"alter table {table} set (autovacuum_enabled = off)".encode()
            )
        yield connection


def too_much(looks: list[Look]) -> list[str]:
    """What looks at too many rows, or reads a table from its beginning to its end."""
    return sorted({
        str(look) for look in looks
        if look.rows > MOST
        or (look.node == "Seq Scan" and not str(look.relation).endswith(("_staged", "_seq")))
    })


def test_no_statement_looks_at_more_of_a_large_project_than_it_needs(
    fresh_database_url: str, admin: psycopg.Connection[Any]
) -> None:
    before = Plans()
    with_old_plans = Service(fresh_database_url, before)
    project, org, _ = add_project(admin, 0)
    with_old_plans.use(project, org)
    empty, before.looks = before.looks, []
    add_others(admin, OTHERS)
    large = [add_project(admin, ROWS) for _ in range(2)]
    project, org, _ = large[0]
    admin.execute(
        """insert into rejected_row (org_id, project_id, row_id, span_id, reason, excerpt)
           select %s, %s, case when n %% 2 = 0 then 'lost' else 'row' || n end, 'lost',
                  'why ' || n, '' from generate_series(1, 4000) as n""",
        (org, project),
    )
    admin.execute(
        """insert into ingest_request (key_id, name, body_hash, tries, answer)
           select 'key', sha256(n::text::bytea), '', 0, '{}'
             from generate_series(1, 20000) as n"""
    )

    admin.execute(
        """insert into watched_row (object_no, seq, watches)
           select object_no, seq, '{1}' from span_head on conflict do nothing"""
    )
    admin.execute(
        """insert into version_time (xact, first_at, last_at)
           select n, now(), now() from generate_series(1, 20000) as n on conflict do nothing"""
    )
    admin.execute(
        """insert into evaluation (object_no, looked_at, until, from_xact, upto_xact, rows_read,
                                   automations)
           select object_no, now(), now(), 0, 0, 0, 0 from object, generate_series(1, 20000)
            where object_type = 'project_logs'"""
    )

    admin.execute(
        """insert into delivery (id, project_id, is_test, state, time_start, time_end, matches,
                                 body, target, next_attempt_at, created)
           select gen_random_uuid(), case when n %% 2 = 0 then %s else gen_random_uuid() end,
                  true, case when n %% 100 = 1 then 'pending' else 'failed' end, now(), now(),
                  1, '', '{"url": "https://example.com/"}', now() + interval '1 hour',
                  now() - interval '1 hour'
             from generate_series(1, 20000) as n""",
        (project,),
    )
    admin.execute(
        """insert into delivery_attempt (delivery_id, attempt_no, project_id, endpoint,
                                         started_at)
           select id, 100, project_id, sha256(id::text::bytea), now() - interval '1 hour'
             from delivery"""
    )
    admin.execute("update delivery set next_attempt_at = now() where state = 'pending'"
                  " and project_id not in (select id from project)")

    with_old_plans.use(project, org)
    new = Plans()
    with_new_plans = Service(fresh_database_url, new)
    with_new_plans.use(project, org)
    without_statistics, new.looks = new.looks, []
    admin.execute("analyze")
    with_new_plans.use(project, org)
    with_old_plans.unwatched.close()
    with_new_plans.unwatched.close()
    with_old_plans.database.close()
    with_new_plans.database.close()

    assert len(before.statements) > 40
    assert too_much(empty) == []
    assert too_much(before.looks) == [], "with the plans of an empty database"
    assert too_much(without_statistics) == [], "without statistics"
    assert too_much(new.looks) == [], "with statistics"
