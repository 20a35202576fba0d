"""A project on PostgreSQL, and the processes that score it."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from score_entries import WRONG_ENTRIES
from store_behaviours.scoring import BUDGET_S, LEASE_S, WAIT_MAX_S, ScoringWorld, Seen

from ops.servers.children import wait_until
from rules.wire import read_rule
from scorers.functions.body import read_function
from scorers.functions.function import Definition, FunctionWrite, IfExists
from spans.clock import system_clock
from spans.ids import FunctionId, ObjectId, OrgId, ProjectId, RuleId, Xact
from spans.json import JsonObject
from spans.queues import held_by_job
from spans.row import ObjectRef, ObjectType
from store.access.projects import StoredProjects
from store.budgets.budgets import StoredBudgets
from store.budgets.held import HeldOutcomes
from store.budgets.purses import StoredPurses
from store.functions.functions import StoredFunctions
from store.logs.fetch import SpanReader
from store.logs.ingest import SpanWriter
from store.postgres.database import Database
from store.postgres.leases import Leases
from store.rules.rules import StoredRules
from store.scoring.circuits import Circuits
from store.scoring.ledger import Ledger
from store.scoring.match_records import MatchRecords


class StoredWorker:
    """A process with connections of its own, by which others see that it lives."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        self.records = MatchRecords(self.database, system_clock, lease_s=LEASE_S)
        self.ledger = Ledger(
            self.database, system_clock, lease_s=LEASE_S, time_limits_s={}
        )

    @property
    def leases(self) -> Leases:
        """New each time: one and the same would not look twice in a second."""
        return Leases(self.database, lease_s=LEASE_S)


class StoredWorld(ScoringWorld):
    def __init__(self, url: str, *, project: str = "app") -> None:
        self.url = url
        self.database = Database(url)
        self.workers: list[StoredWorker] = []
        self.projects = StoredProjects(self.database)
        self.functions = StoredFunctions(self.database)
        self.rules = StoredRules(self.database)
        self.circuits = Circuits(
            self.database, budget_s=BUDGET_S, wait_max_s=WAIT_MAX_S
        )
        self.budgets = StoredBudgets(self.database)
        self.purses = StoredPurses(self.database)
        self.held = HeldOutcomes(self.database)
        self.writer = SpanWriter(self.database, system_clock, resend_minutes=60)
        self.reader = SpanReader(self.database, system_clock, query_timeout_s=30)
        self.org_id = self.projects.ensure_organization(OrgId(uuid.uuid4()), "acme")
        made, _ = self.projects.get_or_create_project(
            self.org_id, ProjectId(uuid.uuid4()), project, None
        )
        self.where = ObjectRef(made.id, ObjectType.PROJECT_LOGS, ObjectId(made.id))
        self.numbers = itertools.count(1)
        super().__init__()

    def process(self) -> StoredWorker:
        self.workers.append(StoredWorker(self.url))
        return self.workers[-1]

    def die(self, worker: StoredWorker) -> None:
        owner = worker.database.owner
        worker.database.close()
        assert wait_until(
            lambda: not self.rows(
                "select from pg_stat_activity where application_name like %s", f"%{owner}"
            ),
            deadline_s=10,
        )

    def wrong_entries(self) -> list[str]:
        """Entries of scores that are missing, or needless."""
        return [entry for (entry,) in self.rows(WRONG_ENTRIES)]

    def await_locks(self, number: int) -> None:
        """Wait until so many connections to the database wait for locks."""
        waiting = """select count(*) from pg_stat_activity
                      where datname = current_database() and wait_event_type = 'Lock'"""
        assert wait_until(lambda: self.rows(waiting) == [(number,)], deadline_s=30)

    def close(self) -> None:
        for worker in self.workers:
            worker.database.close()
        self.database.close()

    def let_pass(self, seconds: float) -> None:
        with self.database.cursor() as cursor:
            for table, columns in (
                ("outbox", ["lease_until"]), ("circuit", ["opened_at", "probe_at"]),
                ("outcome", ["lease_until", "next_attempt_at", "failing_since", "created"]),
            ):
                shifted = ", ".join(
                    f"{column} = {column} - make_interval(secs => %(passed)s)"
                    for column in columns
                )
                cursor.execute(f"update {table} set {shifted}", {"passed": seconds})

    def rule_of(self, name: str, scorers: list[JsonObject], **online: object) -> RuleId:
        body = read_rule({
            "name": name, "score_type": "online",
            "config": {"online": {"sampling_rate": 1, "scorers": scorers, **online}},
        })
        rule, _ = self.rules.create_rule(
            self.where.project_id, RuleId(uuid.uuid4()), body, replace=True
        )
        return rule.id

    def push(self, slug: str, shadow: float | None = None) -> tuple[FunctionId, Xact]:
        body = read_function({
            "name": slug, "slug": slug, "function_type": "scorer",
            "description": f"version {next(self.numbers)}",
            "function_data": {"type": "global", "name": "Levenshtein"},
        })
        definition = Definition(
            project_id=self.where.project_id, body=body, if_exists=IfExists.REPLACE,
            shadow_rate=shadow,
        )
        (written,) = self.functions.write(self.org_id, [
            FunctionWrite(definition=definition, new_id=FunctionId(uuid.uuid4()), program=None)
        ])
        function = written.function
        beside = function.shadow
        return function.id, function.version if beside is None else beside.version

    def delete_project(self) -> None:
        self.projects.delete_project(self.where.project_id)

    def created_by(self, row_id: str) -> str | None:
        ((name,),) = self.rows("select created_by from shown_span where id = %s", row_id)
        return name

    def outcomes(self) -> list[Seen]:
        return [
            Seen(*row) for row in self.rows(
                """select subject_id, origin_id, scorer_version, role, state, queue, attempts,
                          deaths, error_class from shown_outcome"""
            )
        ]

    def replaced(self) -> list[tuple[str, int, str, float]]:
        return self.rows(
            """select span.id, job_no, name, score::float8
                 from replaced_score join span on span.seq = subject_seq"""
        )

    def hold_back(self, row_id: str) -> None:
        with self.database.cursor() as cursor:
            cursor.execute(
                """update outcome set queue = %s from span
                    where span.id = %s and subject_seq = span.seq and state = 'pending'""",
                (held_by_job(1), row_id),
            )

    def rows(self, query: str, *values: object) -> list[tuple]:
        with self.database.cursor() as cursor:
            cursor.execute(query.encode(), values)
            return cursor.fetchall()


@contextmanager
def opened_world(url: str) -> Iterator[StoredWorld]:
    """A world over the database. At its end each score must have its entry."""
    world = StoredWorld(url)
    yield world
    assert world.wrong_entries() == []
    world.close()
