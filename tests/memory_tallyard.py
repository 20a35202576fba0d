"""The use cases over stores in memory, for one organisation."""

from __future__ import annotations

import uuid

from fakes.memory.access import MemoryKeys, MemoryProjects
from fakes.memory.automations import MemoryAutomations
from fakes.memory.budgets import MemoryBudgets
from fakes.memory.functions import MemoryBundles, MemoryFunctions
from fakes.memory.invocations import MemoryInvocations
from fakes.memory.job_records import MemoryJobRecords
from fakes.memory.logs import MemoryRows
from fakes.memory.outcomes import MemoryOutcomes
from fakes.memory.rescore import MemoryJobs, MemoryPastOutcomes, MemorySelectionCounter
from fakes.memory.rules import MemoryRules
from fakes.memory.scoring import MemoryScoring
from fakes.memory.ticks import Ticks
from fakes.sandbox import FakeSandbox

from automations.outbound.policy import Policy
from automations.secrets import SecretBox, new_signing_secret
from flows.access.keys import Keys
from flows.access.organizations import Organizations
from flows.access.principal import KeyRole, Principal
from flows.access.projects import Projects
from flows.automations.automations import Automations
from flows.budgets.budgets import Budgets
from flows.functions.functions import Functions
from flows.functions.invocations import FunctionInvocations
from flows.functions.lookup import FunctionLookup
from flows.functions.shadows import Pair
from flows.functions.uploads import BundleUploads
from flows.invocations.client import InvocationClient
from flows.invocations.runners import InProcess
from flows.invocations.server import InvocationServer
from flows.logs.limits import LogLimits
from flows.logs.logs import Logs
from flows.outcomes.outcomes import Outcomes
from flows.rescore.plan import Planner
from flows.rescore.rescores import Rescores
from flows.rules.rules import Rules
from rules.rescore.estimate import Rates
from rules.rescore.selection_count import ScorerCount, SelectionCount
from spans.event import EventLimits
from spans.ids import OrgId, ProjectId
from spans.queues import HEAVY, SANDBOX

LIMITS = LogLimits(
    rows_per_request_max=3, span_bytes_max=1000,
    event=EventLimits(depth_max=8, nodes_max=100), fetch_limit_max=10,
)


class MemoryTallyard:
    """Use cases and the stores under them.

    `rung` lists the queues that were rung; a queue's server answers its bell at once. `now_s`
    is the time by which keys and projects are trusted, in seconds; a test moves it on.
    `refusals` says why a queue's workers can answer nothing. `logs` is to be closed at the end.
    """

    def __init__(self) -> None:
        self.clock = Ticks()
        self.now_s = 0.0
        self.rung: list[str] = []
        self.refusals: dict[str, str] = {}
        self.stored_projects = MemoryProjects(self.clock)
        self.stored_keys = MemoryKeys(self.stored_projects, self.clock)
        self.rows = MemoryRows(self.stored_projects, self.clock)
        self.bundles = MemoryBundles()
        self.stored_functions = MemoryFunctions(
            self.stored_projects, self.bundles, self.clock, draw=self.rows.draw
        )
        self.stored_rules = MemoryRules(
            self.stored_projects, self.stored_functions, self.clock
        )
        self.stored_automations = MemoryAutomations(self.stored_projects, self.clock)
        self.scoring = MemoryScoring(self.rows, self.stored_projects, self.clock)
        self.stored_outcomes = MemoryOutcomes(
            self.scoring, self.stored_functions, self.stored_rules
        )
        self.asked = MemoryInvocations(rows=self.rows)
        self.pairs: list[Pair] = []
        self.sandbox = FakeSandbox()
        self.servers = {
            SANDBOX: InvocationServer(
                queue=SANDBOX, store=self.asked, spans_of=self.rows.spans_of,
                runner=self.sandbox, check_code=self.sandbox.check,
            ),
            HEAVY: InvocationServer(
                queue=HEAVY, store=self.asked, spans_of=self.rows.spans_of, runner=InProcess(),
            ),
        }
        self.client = InvocationClient(
            store=self.asked, answers=self.asked, ring=self.ring, refusal=self.refusals.get
        )
        self.projects = Projects(
            self.stored_projects, ring=self.ring, seconds=lambda: self.now_s
        )
        self.keys = Keys(
            self.stored_keys, self.clock, projects=self.projects, seconds=lambda: self.now_s
        )
        self.organizations = Organizations(self.stored_projects)
        self.logs = Logs(
            projects=self.projects, store=self.rows, reader=self.rows, feed=self.rows,
            expiry=self.rows, ring=self.ring, limits=LIMITS,
        )
        self.lookup = FunctionLookup(
            store=self.stored_functions, projects=self.projects, client=self.client
        )
        self.functions = Functions(
            self.stored_functions, pairs_of=lambda *_: self.pairs, bundles=self.bundles,
            projects=self.projects, lookup=self.lookup, client=self.client,
        )
        self.invocations = FunctionInvocations(
            self.stored_functions, lookup=self.lookup, client=self.client, reader=self.rows,
            projects=self.projects, limits=LIMITS.event,
        )
        self.uploads = BundleUploads(self.bundles)
        self.rules = Rules(
            self.stored_rules, projects=self.projects,
            lookup=self.lookup,
        )
        self.secrets = SecretBox(["the-key-of-the-tests-alone"])
        self.automations = Automations(
            self.stored_automations, projects=self.projects, box=self.secrets,
            check_url=Policy().target, new_secret=new_signing_secret,
        )
        self.outcomes = Outcomes(
            self.stored_outcomes, explained=self.stored_outcomes, projects=self.projects,
            rules=self.rules, ring=self.ring,
        )
        self.stored_jobs = MemoryJobs(self.stored_projects, self.clock)
        self.stored_budgets = MemoryBudgets(self.stored_projects, self.clock, self.scoring)
        self.job_records = MemoryJobRecords()
        self.budgets = Budgets(
            self.stored_budgets, projects=self.projects, rules=self.rules, ring=self.ring,
            project_of_job=self.project_of_job,
        )
        self.planner = Planner(
            counter=MemorySelectionCounter(SelectionCount(
                records=0, scorers=(ScorerCount(records=0),), record_bytes=0.0, measured=0
            )),
            source=MemoryPastOutcomes({}),
            rates=Rates(prices=lambda _: None, in_flight=lambda _: 1), clock=self.clock,
            model="gpt-5-mini",
        )
        self.rescores = Rescores(
            self.stored_jobs, records=self.job_records, planner=self.planner,
            budgets=self.budgets, projects=self.projects, rules=self.rules,
            lookup=self.lookup, ring=self.ring,
        )
        self.budgets = Budgets(
            self.stored_budgets, projects=self.projects, rules=self.rules, ring=self.ring,
            project_of_job=self.project_of_job,
        )
        self.admin = self.organizations.administrator("acme")

    def project_of_job(self, org_id: OrgId, job_id: uuid.UUID) -> ProjectId | None:
        job = self.stored_jobs.find(org_id, job_id)
        return None if job is None else job.project_id

    def ring(self, queue: str) -> None:
        self.rung.append(queue)
        if queue in self.servers:
            self.servers[queue].serve_some()

    def project(self, name: str, of: Principal | None = None) -> ProjectId:
        """A project of the organisation, or of that of another administrator."""
        made, _ = self.projects.get_or_create(of or self.admin, name)
        return made.id

    def caller(
        self, role: KeyRole = KeyRole.ADMIN, project_id: ProjectId | None = None
    ) -> Principal:
        """A caller of the organisation, for one project or for all."""
        return Principal(
            key_id=f"key {uuid.uuid4()}", key_name="key", org_id=self.admin.org_id,
            org_name=self.admin.org_name, project_id=project_id, role=role,
        )

    def stranger(self) -> Principal:
        """An administrator of another organisation."""
        return self.organizations.administrator("strangers")
