"""The stored outcomes, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from store_behaviours.functions import FunctionStores
from store_behaviours.logs import LogStores
from store_behaviours.outcomes import OutcomeBehaviours, OutcomeStores

from flows.scoring.claims import execution_of
from flows.scoring.match import Matcher
from spans.clock import system_clock
from spans.outcome import Verdict
from spans.queues import HEAVY
from spans.work import RunnableClaim
from store.access.projects import StoredProjects
from store.functions.bundles import Bundles
from store.functions.functions import StoredFunctions
from store.logs.change_feed import ChangeFeed
from store.logs.expiry import LogExpiry
from store.logs.fetch import SpanReader
from store.logs.ingest import SpanWriter
from store.outcomes.explain import ExplainRecords
from store.outcomes.outcomes import StoredOutcomes
from store.postgres.database import Database
from store.rules.rules import StoredRules
from store.scoring.ledger import Ledger
from store.scoring.match_records import MatchRecords

pytestmark = pytest.mark.every_postgres


class TestStoredOutcomes(OutcomeBehaviours):
    @pytest.fixture
    def stores(self, fresh_database_url: str) -> Iterator[OutcomeStores]:
        database = Database(fresh_database_url)
        projects = StoredProjects(database)
        records = MatchRecords(database, system_clock, lease_s=60)
        matcher = Matcher(store=records, cost_limit=-1)     # every scorer is too slow
        ledger = Ledger(database, system_clock, lease_s=60, time_limits_s={})

        def match() -> None:
            while matcher.match_some().rows:
                pass

        def settle(verdict: Verdict) -> None:
            for claim in ledger.claim(HEAVY, 100):
                if isinstance(claim, RunnableClaim):
                    ledger.record([(claim, execution_of(claim, verdict, HEAVY))])
                else:
                    ledger.supersede([claim])

        yield OutcomeStores(
            logs=LogStores(
                writer=SpanWriter(database, system_clock, resend_minutes=60),
                reader=SpanReader(database, system_clock, query_timeout_s=30),
                feed=ChangeFeed(database), expiry=LogExpiry(database),
                projects=projects,
            ),
            functions=FunctionStores(
                functions=StoredFunctions(database), bundles=Bundles(database),
                projects=projects,
            ),
            rules=StoredRules(database),
            outcomes=StoredOutcomes(database), explained=ExplainRecords(database, records),
            match=match, settle=settle,
        )
        database.close()
