"""The store of outcomes in memory does what the stored ones do."""

from __future__ import annotations

import pytest
from memory_tallyard import MemoryTallyard
from store_behaviours.functions import FunctionStores
from store_behaviours.logs import LogStores
from store_behaviours.outcomes import OutcomeBehaviours, OutcomeStores


class TestMemoryOutcomes(OutcomeBehaviours):
    @pytest.fixture
    def stores(self) -> OutcomeStores:
        here = MemoryTallyard()
        rows, projects, outcomes = here.rows, here.stored_projects, here.stored_outcomes
        return OutcomeStores(
            logs=LogStores(
                writer=rows, reader=rows, feed=rows, expiry=rows, projects=projects
            ),
            functions=FunctionStores(
                functions=here.stored_functions, bundles=here.bundles, projects=projects
            ),
            rules=here.stored_rules, outcomes=outcomes, explained=outcomes,
            match=outcomes.match, settle=outcomes.settle,
        )
