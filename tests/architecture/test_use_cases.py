"""Every public method of a class of use cases checks the caller's role first."""

from __future__ import annotations

import inspect

from flows.access.keys import Keys
from flows.access.organizations import Organizations
from flows.access.projects import Projects
from flows.automations.automations import Automations
from flows.automations.deliveries import Deliveries
from flows.automations.history import AutomationHistory
from flows.automations.replays import Replays
from flows.automations.trial import Trials
from flows.budgets.budgets import Budgets
from flows.functions.functions import Functions
from flows.functions.invocations import FunctionInvocations
from flows.functions.uploads import BundleUploads
from flows.health.health import Health
from flows.logs.logs import Logs
from flows.outcomes.outcomes import Outcomes
from flows.rescore.rescores import Rescores
from flows.rules.rules import Rules
from wiring.tallyard import Tallyard

CLASSES = {
    AutomationHistory, Automations, Budgets, BundleUploads, Deliveries, FunctionInvocations,
    Functions, Health, Keys, Logs, Organizations, Outcomes, Projects, Replays, Rescores, Rules,
    Trials,
}

# Public methods that check no role, each with its reason.
WITHOUT_A_ROLE = {
    "BundleUploads.check": "the secret of the upload takes the place of a key",
    "BundleUploads.fill": "the same secret, which it checks itself",
    "Health.measure": "needs no key: it contains no users' data",
    "Health.readiness": "needs no key: it contains no users' data",
    "Health.sending": "no entry point but the commands on this machine calls it",
    "Health.waiting": "no entry point but the commands on this machine calls it",
    "Keys.authenticate": "finds out who the caller is",
    "Keys.trusted": "finds out who the caller is",
    "Logs.close": "ends the process's own writes",
    "Organizations.administrator": "makes the caller of commands on this machine",
    "Projects.logs_of": "a part of use cases that have checked the role; checks reach",
    "Projects.scope": "a part of use cases that have checked the role; checks reach",
    "Projects.trusted_logs_of": "a part of use cases that have checked the role; checks reach",
}


def test_every_class_of_use_cases_is_looked_at():
    annotations = inspect.get_annotations(Tallyard, eval_str=True)
    assert set(annotations.values()) == CLASSES


def test_every_public_method_is_a_use_case_or_has_a_reason_not_to_be():
    without = {
        f"{each.__name__}.{name}"
        for each in CLASSES
        for name, method in vars(each).items()
        if not name.startswith("_") and not hasattr(method, "roles")
    }
    assert without == set(WITHOUT_A_ROLE)
