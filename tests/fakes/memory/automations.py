"""Automations in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from fakes.memory.access import MemoryProjects
from fakes.memory.pages import page_of

from automations.model import Automation, AutomationStatus, WebhookAction
from automations.wire import AutomationFields
from flows.access.projects import ListPage
from flows.automations.automations import AutomationWrite
from spans.clock import Clock
from spans.errors import BadInput, NotFound
from spans.ids import AutomationId, OrgId, ProjectId


class MemoryAutomations:
    """Implements flows.automations.automations.AutomationStore.

    `secrets` are sealed as they were given, each after those that it replaced.
    """

    def __init__(self, projects: MemoryProjects, clock: Clock) -> None:
        self._projects = projects
        self._clock = clock
        self._automations: dict[AutomationId, Automation] = {}
        self.secrets: dict[AutomationId, list[bytes]] = {}
        self.sealed_authorizations: dict[AutomationId, bytes | None] = {}

    def put_automations(
        self, project_id: ProjectId, wanted: Sequence[AutomationFields],
        write: Callable[[AutomationFields, Automation | None], AutomationWrite], *,
        created_by: str, replace: bool,
    ) -> list[tuple[Automation, bool]]:
        known = [self._named(project_id, fields.name) for fields in wanted]
        asked = [
            (present or self._new(project_id, writing, created_by), writing)
            for fields, present in zip(wanted, known, strict=True)
            if present is None or replace
            for writing in [write(fields, present)]
        ]
        for automation, writing in asked:
            self._store(automation, writing)
        return [
            (self._automations[found.id], present is not None)
            for fields, present in zip(wanted, known, strict=True)
            if (found := self._named(project_id, fields.name))
        ]

    def find_automation(
        self, org_id: OrgId, automation_id: AutomationId
    ) -> Automation | None:
        return next((each for each in self._of_org(org_id) if each.id == automation_id), None)

    def list_automations(
        self, org_id: OrgId, page: ListPage, project_id: ProjectId | None
    ) -> list[Automation]:
        found = [each for each in self._of_org(org_id) if project_id in {None, each.project_id}]
        return page_of(
            found, page, marks=self._automations.values(), name_of=lambda each: each.name
        )

    def authorizations(self, project_id: ProjectId) -> dict[AutomationId, bytes]:
        return {
            each.id: sealed for each in self._automations.values()
            if each.project_id == project_id
            and (sealed := self.sealed_authorizations[each.id]) is not None
        }

    def change_automation(
        self, automation: Automation, patch: Callable[[Automation], AutomationWrite]
    ) -> Automation:
        present = self._automations.get(automation.id)
        if present is None:
            raise NotFound("no such automation")
        write = patch(present)
        namesake = self._named(present.project_id, write.fields.name)
        if namesake is not None and namesake.id != present.id:
            raise BadInput(f"another automation is named {write.fields.name!r}", path="name")
        return self._store(present, write)

    def delete_automations(
        self, project_id: ProjectId, automation_ids: Collection[AutomationId]
    ) -> None:
        for automation_id in automation_ids:
            self._automations.pop(automation_id, None)

    def rotate_secret(self, automation_id: AutomationId, secret: bytes) -> bool:
        if not self.secrets.get(automation_id):
            return False
        self.secrets[automation_id].append(secret)
        return True

    # --- what Tallyard itself does

    def disable(self, automation_id: AutomationId, reason: str) -> None:
        self._automations[automation_id] = replace(
            self._automations[automation_id], status=AutomationStatus.PAUSED,
            disabled_at=self._clock(),
            disabled_reason=reason,
        )

    def _new(
        self, project_id: ProjectId, write: AutomationWrite, created_by: str
    ) -> Automation:
        fields = write.fields
        return Automation(
            id=write.new_id, project_id=project_id, name=fields.name,
            description=fields.description, btql_filter=fields.btql_filter,
            interval_s=fields.interval_s, status=AutomationStatus.PAUSED, action=fields.action,
            created=self._clock(), created_by=created_by,
        )

    def _store(self, present: Automation, write: AutomationWrite) -> Automation:
        fields = write.fields
        resumes = fields.status is AutomationStatus.ACTIVE
        if not write.keeps_authorization:
            self.sealed_authorizations[present.id] = write.authorization
        kept = self.secrets.get(present.id, [])
        signs = isinstance(fields.action, WebhookAction)
        self.secrets[present.id] = (
            [] if not signs else kept if write.secret is None else [*kept, write.secret]
        )
        self._automations[present.id] = replace(
            present, name=fields.name, description=fields.description,
            btql_filter=fields.btql_filter, interval_s=fields.interval_s,
            status=fields.status, action=fields.action,
            has_authorization=self.sealed_authorizations[present.id] is not None,
            disabled_at=None if resumes else present.disabled_at,
            disabled_reason=None if resumes else present.disabled_reason,
        )
        return self._automations[present.id]

    def _named(self, project_id: ProjectId, name: str) -> Automation | None:
        return next(
            (
                each for each in self._automations.values()
                if each.project_id == project_id and each.name == name
            ),
            None,
        )

    def _of_org(self, org_id: OrgId) -> list[Automation]:
        return [
            each for each in self._automations.values()
            if self._projects.find_project(org_id, each.project_id) is not None
        ]
