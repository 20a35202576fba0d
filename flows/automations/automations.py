"""The use cases of automations: make, list, change and delete them."""

from __future__ import annotations

import builtins
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from automations.model import Action, Automation, WebhookAction
from automations.wire import (
    HIDDEN,
    AutomationFields,
    patch_automation,
    with_stored_secrets,
)
from flows.access.principal import KeyRole, Principal
from flows.access.projects import ListPage, Project, Projects
from flows.access.use_case import use_case
from spans.errors import BadInput, NotFound
from spans.ids import AutomationId, OrgId, ProjectId, parse_uuid
from spans.json import JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class AutomationWrite:
    """An automation as it is to be stored. Secrets are sealed.

    `new_id` is the id of a new one. `secret` signs what is sent from now on; None: what is
    stored signs, or nothing, for Slack. `authorization` is the value of that header; with
    `keeps_authorization` the stored one stays.
    """

    new_id: AutomationId
    fields: AutomationFields
    secret: bytes | None
    authorization: bytes | None
    keeps_authorization: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenAutomation:
    """An automation that was made or changed, and whether one of its name existed before.

    `secret` is shown this once, if the automation got a new one: it signs what is sent.
    """

    automation: Automation
    existed: bool
    secret: str | None = field(repr=False)


class AutomationStore(Protocol):
    """Where automations are stored. A change takes effect with the next look at the logs."""

    def put_automations(
        self, project_id: ProjectId, wanted: Sequence[AutomationFields],
        write: Callable[[AutomationFields, Automation | None], AutomationWrite], *,
        created_by: str, replace: bool,
    ) -> list[tuple[Automation, bool]]:
        """The project's automations of the names that are `wanted`, each with whether it
        existed before.

        Those that do not exist are made. Existing ones are returned unchanged, or with
        `replace` become what is wanted. All of it is done or, on an error, nothing. `write`
        says what to store, given the present automation if there is one; all are locked.
        """
        ...

    def find_automation(
        self, org_id: OrgId, automation_id: AutomationId
    ) -> Automation | None: ...

    def list_automations(
        self, org_id: OrgId, page: ListPage, project_id: ProjectId | None
    ) -> list[Automation]: ...

    def change_automation(
        self, automation: Automation, patch: Callable[[Automation], AutomationWrite]
    ) -> Automation:
        """Replaces the automation by what `patch` makes of it, while it is locked.

        Raises NotFound if it has been deleted meanwhile, BadInput if another one has the name.
        """
        ...

    def delete_automations(
        self, project_id: ProjectId, automation_ids: Collection[AutomationId]
    ) -> None:
        """Deletes automations, what they have collected, and their deliveries."""
        ...

    def rotate_secret(self, automation_id: AutomationId, secret: bytes) -> bool:
        """Replaces the secret. The former one signs too for a day. False: it has none."""
        ...


class Automations:
    """The automations of an organisation's projects. Thread-safe.

    `seal` encrypts a secret; it raises SetupError if there is no key for that. `check_url`
    raises BadInput for a URL to which nothing may be sent. `new_secret` makes a text that
    signs.
    """

    def __init__(
        self, store: AutomationStore, *, projects: Projects, seal: Callable[[str], bytes],
        check_url: Callable[[str], object], new_secret: Callable[[], str],
        new_id: Callable[[], UUID] = uuid.uuid4,
    ) -> None:
        self._store = store
        self._projects = projects
        self._seal = seal
        self._check_url = check_url
        self._new_secret = new_secret
        self._new_id = new_id

    @use_case()
    def make(
        self, principal: Principal, project_id: ProjectId, fields: AutomationFields, *,
        replace: bool,
    ) -> WrittenAutomation:
        """The project's automation with this name, made if there is none.

        An existing one is returned unchanged, or with `replace` becomes `fields`. Raises
        NotFound for a project that the key does not reach, and BadInput.
        """
        project = self._projects.get(principal, project_id)
        (written,) = self._put(principal, project, [fields], replace=replace)
        return written

    @use_case(KeyRole.READ)
    def get(self, principal: Principal, automation_id: AutomationId) -> Automation:
        """The automation. Raises NotFound if there is none that the key reaches."""
        return self._reachable(principal, automation_id)

    @use_case(KeyRole.READ)
    def named(self, principal: Principal, project_id: ProjectId, text: str) -> Automation:
        """The project's automation with this name or id. Raises NotFound."""
        project = self._projects.get(principal, project_id)
        page = ListPage(limit=1, name=text)
        found = next(
            iter(self._store.list_automations(principal.org_id, page, project.id)), None
        )
        if found is None and (known := parse_uuid(text)) is not None:
            found = self._store.find_automation(principal.org_id, AutomationId(known))
        if found is None or found.project_id != project.id:
            raise NotFound(
                f"the project {project.name!r} has no automation {text!r}: see "
                "`automations list`"
            )
        return found

    @use_case(KeyRole.READ)
    def list(
        self, principal: Principal, page: ListPage, *, project_id: ProjectId | None = None,
        project_name: str | None = None,
    ) -> builtins.list[Automation]:
        """The automations that the key reaches, newest first."""
        try:
            scope = self._projects.scope(principal, project_id, project_name)
        except NotFound:
            return []
        return self._store.list_automations(principal.org_id, page, scope)

    @use_case()
    def change(
        self, principal: Principal, automation_id: AutomationId, changes: JsonObject
    ) -> WrittenAutomation:
        """Replaces the fields that `changes` gives, and returns the changed automation.

        Raises NotFound, and BadInput for an automation that would not be valid.
        """
        automation = self._reachable(principal, automation_id)
        secrets: dict[str, str] = {}

        def patch(present: Automation) -> AutomationWrite:
            return self._write(patch_automation(present, changes), present, secrets)

        changed = self._store.change_automation(automation, patch)
        return WrittenAutomation(
            automation=changed, existed=True, secret=secrets.get(changed.name)
        )

    @use_case()
    def delete(self, principal: Principal, automation_id: AutomationId) -> Automation:
        """Deletes an automation, what it has collected, and its deliveries."""
        automation = self._reachable(principal, automation_id)
        self._store.delete_automations(automation.project_id, [automation.id])
        return automation

    @use_case()
    def rotate_secret(
        self, principal: Principal, automation_id: AutomationId
    ) -> tuple[Automation, str]:
        """The automation and its new secret, shown this once. The former one signs too for 24
        hours. Raises NotFound, and BadInput for an automation that does not sign."""
        automation = self._reachable(principal, automation_id)
        secret = self._new_secret()
        if not self._store.rotate_secret(automation.id, self._seal(secret)):
            raise BadInput("only webhooks have a secret: what is sent to Slack is not signed")
        return automation, secret

    def _put(
        self, principal: Principal, project: Project, wanted: Sequence[AutomationFields], *,
        replace: bool,
    ) -> builtins.list[WrittenAutomation]:
        secrets: dict[str, str] = {}
        done = self._store.put_automations(
            project.id, wanted,
            lambda fields, present: self._write(fields, present, secrets),
            created_by=principal.key_name, replace=replace,
        )
        return [
            WrittenAutomation(automation=each, existed=existed, secret=secrets.get(each.name))
            for each, existed in done
        ]

    def _write(
        self, sent: AutomationFields, present: Automation | None, secrets: dict[str, str]
    ) -> AutomationWrite:
        """What to store. A new secret is put into `secrets`, under the automation's name.

        Raises BadInput, and SetupError if secrets cannot be kept.
        """
        fields = with_stored_secrets(sent, present)
        before = None if present is None else present.action
        if before is None or fields.action.url != before.url:
            self._check(fields.action)
        secret = None
        if isinstance(fields.action, WebhookAction) and not isinstance(before, WebhookAction):
            secrets[fields.name] = self._new_secret()
            secret = self._seal(secrets[fields.name])
        given = fields.authorization
        keeps = given == HIDDEN
        return AutomationWrite(
            new_id=AutomationId(self._new_id()), fields=fields, secret=secret,
            authorization=None if keeps or given is None else self._seal(given),
            keeps_authorization=keeps,
        )

    def _check(self, action: Action) -> None:
        try:
            self._check_url(action.url)
        except BadInput as error:
            raise error.within("config.action.url") from error

    def _reachable(self, principal: Principal, automation_id: AutomationId) -> Automation:
        automation = self._store.find_automation(principal.org_id, automation_id)
        if automation is None or not principal.reaches(automation.project_id):
            raise NotFound("no such automation")
        return automation
