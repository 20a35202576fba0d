"""The use cases of automations: make, list, change and delete them, and apply a file."""

from __future__ import annotations

import builtins
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from automations.file import ITEMS, StoredItem, automation_for_file, differences, read_file
from automations.model import Automation, WebhookAction
from automations.secrets import SecretBox
from automations.wire import (
    HIDDEN,
    AutomationFields,
    patch_automation,
    with_stored_secrets,
)
from flows.access.principal import KeyRole, Principal
from flows.access.projects import ListPage, Project, Projects
from flows.access.use_case import use_case
from spans.errors import BadInput, NotFound, SetupError
from spans.file_plan import ChangeKind, FilePlan
from spans.ids import AutomationId, OrgId, ProjectId, parse_uuid
from spans.json import Json, JsonObject

PAGE = 1000
"""Automations that are read at once: a project may have many thousands."""


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

    def authorizations(self, project_id: ProjectId) -> Mapping[AutomationId, bytes]:
        """The sealed values of that header, of the project's automations that have one."""
        ...

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

    `box` encrypts secrets; it raises SetupError if there is no key for that. `check_url`
    raises BadInput for a URL to which nothing may be sent. `new_secret` makes a text that
    signs.
    """

    def __init__(
        self, store: AutomationStore, *, projects: Projects, box: SecretBox,
        check_url: Callable[[str], object], new_secret: Callable[[], str],
        new_id: Callable[[], UUID] = uuid.uuid4,
    ) -> None:
        self._store = store
        self._projects = projects
        self._box = box
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
        if not self._store.rotate_secret(automation.id, self._box.seal(secret)):
            raise BadInput("only webhooks have a secret: what is sent to Slack is not signed")
        return automation, secret

    @use_case()
    def plan_file(
        self, principal: Principal, content: Json, environment: Mapping[str, str], *,
        prune: bool,
    ) -> FilePlan[AutomationFields]:
        """The changes that make a project's automations equal to those of a file (see
        `automations.file`).

        Automations that are not in the file stay, unless `prune`. Secrets are read from
        `environment`. Raises BadInput, which says where in the file the error is.
        """
        wanted = read_file(content, environment)
        try:
            project = self._projects.named(principal, wanted.project)
            present = self._stored_items(principal, project)
        except NotFound:
            project, present = None, []
        by_name = {each.automation.name: each.automation for each in present}
        return FilePlan(
            project_name=wanted.project, is_new_project=project is None,
            changes=differences(
                [
                    self._checked_item(index, fields, by_name.get(fields.name))
                    for index, fields in enumerate(wanted.automations)
                ],
                present, prune=prune,
            ),
        )

    @use_case()
    def apply(
        self, principal: Principal, plan: FilePlan[AutomationFields]
    ) -> builtins.list[WrittenAutomation]:
        """Makes the changes of a plan from `plan_file`. Creates the project if needed.

        Returns what was written, with new secrets, which are shown this once. All is checked
        again, and what is to be deleted is looked up again by name in the project, since the
        caller could have made the plan itself.
        """
        project, _ = self._projects.get_or_create(principal, plan.project_name)
        unwanted = {each.name for each in plan.changes if each.kind is ChangeKind.DELETE}
        if unwanted:
            self._store.delete_automations(
                project.id,
                [each.id for each in self._all(principal, project) if each.name in unwanted],
            )
        # The last transaction, since new secrets are lost if one fails after it.
        wanted = [change.body for change in plan.changes if change.body is not None]
        return self._put(principal, project, wanted, replace=True)

    @use_case(KeyRole.READ)
    def export(self, principal: Principal, project_id: ProjectId) -> JsonObject:
        """The project's automations as the content of a file for `plan_file`, without their
        secrets."""
        project = self._projects.get(principal, project_id)
        found = reversed(self._all(principal, project))
        return {
            "project": project.name,
            "automations": [automation_for_file(each) for each in found],
        }

    def _all(self, principal: Principal, project: Project) -> builtins.list[Automation]:
        """All automations of the project, newest first."""
        found: builtins.list[Automation] = []
        page = ListPage(limit=PAGE)
        while part := self._store.list_automations(principal.org_id, page, project.id):
            found += part
            page = ListPage(limit=PAGE, starting_after=str(part[-1].id))
        return found

    def _stored_items(
        self, principal: Principal, project: Project
    ) -> builtins.list[StoredItem]:
        """The project's automations as a file is compared with them."""
        sealed = self._store.authorizations(project.id)
        return [
            StoredItem(
                automation=each,
                authorization=self._opened(sealed[each.id]) if each.id in sealed else None,
            )
            for each in self._all(principal, project)
        ]

    def _opened(self, sealed: bytes) -> str:
        try:
            return self._box.open(sealed)
        except SetupError:
            return HIDDEN   # its key is gone: a file that gives the value replaces it

    def _checked_item(
        self, index: int, sent: AutomationFields, present: Automation | None
    ) -> AutomationFields:
        """The automation at this place of a file, with what is stored in place of masks."""
        try:
            return self._checked(sent, present)
        except BadInput as error:
            told = str(error).replace("config.", "")
            raise BadInput(told, path=f"{ITEMS}[{index}]") from error

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
        fields = self._checked(sent, present)
        before = None if present is None else present.action
        secret = None
        if isinstance(fields.action, WebhookAction) and not isinstance(before, WebhookAction):
            secrets[fields.name] = self._new_secret()
            secret = self._box.seal(secrets[fields.name])
        given = fields.authorization
        keeps = given == HIDDEN
        return AutomationWrite(
            new_id=AutomationId(self._new_id()), fields=fields, secret=secret,
            authorization=None if keeps or given is None else self._box.seal(given),
            keeps_authorization=keeps,
        )

    def _checked(
        self, sent: AutomationFields, present: Automation | None
    ) -> AutomationFields:
        """What is to be stored, with what is stored in place of masks. Raises BadInput."""
        fields = with_stored_secrets(sent, present)
        if present is None or fields.action.url != present.action.url:
            try:
                self._check_url(fields.action.url)
            except BadInput as error:
                raise error.within("config.action.url") from error
        return fields

    def _reachable(self, principal: Principal, automation_id: AutomationId) -> Automation:
        automation = self._store.find_automation(principal.org_id, automation_id)
        if automation is None or not principal.reaches(automation.project_id):
            raise NotFound("no such automation")
        return automation
