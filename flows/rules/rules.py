"""The use cases of rules: make, list, change, delete, and apply a file."""

from __future__ import annotations

import builtins
import uuid
from collections.abc import Callable
from typing import Protocol
from uuid import UUID

from flows.access.principal import KeyRole, Principal
from flows.access.projects import ListPage, Project, Projects
from flows.access.use_case import use_case
from flows.functions.lookup import FunctionById, FunctionLookup
from flows.rules.rules_file import ReachableNames
from rules.file import differences, read_file, rule_for_file
from rules.wire import ONLINE, GlobalScorer, ProjectScore, ProjectScoreBody, patch_rule
from scorers.functions.function import read_version
from spans.errors import BadInput, NotFound
from spans.file_plan import ChangeKind, FilePlan
from spans.ids import FunctionId, OrgId, ProjectId, RuleId
from spans.json import Json, JsonObject

RULES_MAX = 1000
"""Rules of one project that are listed for a command or compared with a file."""


class RuleStore(Protocol):
    """Where rules are stored. Each change makes a new revision of the project's rule set."""

    def create_rule(
        self, project_id: ProjectId, new_id: RuleId, body: ProjectScoreBody, *, replace: bool
    ) -> tuple[ProjectScore, bool]:
        """The project's rule with this name, and whether it existed before.

        An existing rule is returned unchanged, or with `replace` becomes `body`.
        """
        ...

    def find_rule(self, org_id: OrgId, rule_id: RuleId) -> ProjectScore | None: ...

    def list_rules(
        self,
        org_id: OrgId,
        page: ListPage,
        project_id: ProjectId | None,
        score_type: str | None = None,
    ) -> list[ProjectScore]: ...

    def change_rule(
        self, rule: ProjectScore, patch: Callable[[ProjectScore], ProjectScoreBody]
    ) -> ProjectScore:
        """Replaces the rule by what `patch` makes of it, while the rule is locked.

        Returns the new rule. Raises NotFound if the rule has been deleted meanwhile.
        """
        ...

    def delete_rule(self, rule: ProjectScore) -> None:
        """Deletes the rule and supersedes its pending outcomes. Its scores stay."""
        ...


class Rules:
    """The rules of an organisation's projects. Thread-safe."""

    def __init__(
        self, store: RuleStore, *, projects: Projects, lookup: FunctionLookup,
        new_id: Callable[[], UUID] = uuid.uuid4,
    ) -> None:
        self._store = store
        self._projects = projects
        self._lookup = lookup
        self._new_id = new_id

    @use_case()
    def make(
        self, principal: Principal, project_id: ProjectId, body: ProjectScoreBody, *,
        replace: bool,
    ) -> tuple[ProjectScore, bool]:
        """The project's rule with this name, and whether it existed before.

        An existing rule is returned unchanged, or with `replace` becomes `body`. Raises
        NotFound for a project that the key does not reach, and BadInput for such a function.
        """
        project = self._projects.get(principal, project_id)
        self._check_functions(principal, body)
        return self._store.create_rule(
            project.id, RuleId(self._new_id()), body, replace=replace
        )

    @use_case(KeyRole.READ)
    def get(self, principal: Principal, rule_id: RuleId) -> ProjectScore:
        """The rule. Raises NotFound if there is none that the key reaches."""
        return self._reachable(principal, rule_id)

    @use_case(KeyRole.READ)
    def named(self, principal: Principal, project_id: ProjectId, text: str) -> ProjectScore:
        """The project's rule with this name or id. Raises NotFound."""
        project = self._projects.get(principal, project_id)
        for rule in self._online(principal, project):
            if text in {rule.name, str(rule.id)}:
                return rule
        raise NotFound(
            f"the project {project.name!r} has no rule {text!r}: see `tallyard rules list`"
        )

    @use_case(KeyRole.READ)
    def list(
        self, principal: Principal, page: ListPage, *, project_id: ProjectId | None = None,
        project_name: str | None = None, score_type: str | None = None,
    ) -> builtins.list[ProjectScore]:
        """The project scores that the key reaches, newest first."""
        try:
            scope = self._projects.scope(principal, project_id, project_name)
        except NotFound:
            return []
        return self._store.list_rules(principal.org_id, page, scope, score_type)

    @use_case()
    def change(
        self, principal: Principal, rule_id: RuleId, changes: JsonObject
    ) -> ProjectScore:
        """Replaces the fields that `changes` gives, and returns the changed rule.

        Raises NotFound, and BadInput for a rule that would not be valid.
        """
        rule = self._reachable(principal, rule_id)
        self._check_functions(principal, patch_rule(rule, changes), present=rule)
        return self._store.change_rule(rule, lambda present: patch_rule(present, changes))

    @use_case()
    def delete(self, principal: Principal, rule_id: RuleId) -> ProjectScore:
        """Deletes a rule and supersedes its pending outcomes. Its scores stay."""
        rule = self._reachable(principal, rule_id)
        self._store.delete_rule(rule)
        return rule

    @use_case()
    def plan_file(
        self, principal: Principal, content: Json, *, prune: bool
    ) -> FilePlan[ProjectScoreBody]:
        """The changes that make a project's rules equal to those of a file (see `rules.file`).

        Rules that are not in the file stay, unless `prune`. Raises BadInput, which says where
        in the file the error is.
        """
        names = self._names(principal)
        wanted = read_file(content, names)
        try:
            project = self._projects.named(principal, wanted.project)
            present = self._online(principal, project)
        except NotFound:
            project, present = None, []
        by_name = {rule.name: rule for rule in present}
        for body in wanted.rules:
            self._check_functions(principal, body, present=by_name.get(body.name))
        return FilePlan(
            project_name=wanted.project, is_new_project=project is None,
            changes=differences(wanted, present, names, prune=prune),
        )

    @use_case()
    def apply(self, principal: Principal, plan: FilePlan[ProjectScoreBody]) -> Project:
        """Makes the changes of a plan from `plan_file`. Creates the project if needed.

        The functions in the plan are checked again, and the rules to delete are looked up again
        by name in the project, since the caller could have made the plan itself.
        """
        project, _ = self._projects.get_or_create(principal, plan.project_name)
        present = {rule.name: rule for rule in self._online(principal, project)}
        for change in plan.changes:
            if change.body is not None:
                self._check_functions(
                    principal, change.body, present=present.get(change.name)
                )
        for change in plan.changes:
            if change.body is not None:
                self._store.create_rule(
                    project.id, RuleId(self._new_id()), change.body, replace=True
                )
            elif change.kind is ChangeKind.DELETE and change.name in present:
                self._store.delete_rule(present[change.name])
        return project

    @use_case(KeyRole.READ)
    def export(self, principal: Principal, project_id: ProjectId) -> JsonObject:
        """The project's rules as the content of a file for `plan_file`."""
        project = self._projects.get(principal, project_id)
        names = self._names(principal)
        rules = sorted(self._online(principal, project), key=lambda rule: rule.created)
        return {
            "project": project.name,
            "rules": [
                rule_for_file(rule.name, rule.description, rule.config, project.name, names)
                for rule in rules
            ],
        }

    def _names(self, principal: Principal) -> ReachableNames:
        return ReachableNames(
            principal=principal, lookup=self._lookup, projects=self._projects
        )

    def _online(self, principal: Principal, project: Project) -> builtins.list[ProjectScore]:
        page = ListPage(limit=RULES_MAX)
        return self._store.list_rules(principal.org_id, page, project.id, ONLINE)

    def _reachable(self, principal: Principal, rule_id: RuleId) -> ProjectScore:
        rule = self._store.find_rule(principal.org_id, rule_id)
        if rule is None or not principal.reaches(rule.project_id):
            raise NotFound("no such project score")
        return rule

    def _check_functions(
        self, principal: Principal, body: ProjectScoreBody, *,
        present: ProjectScore | None = None,
    ) -> None:
        """Raises BadInput if the rule names a function that the key does not reach, or that is
        not a scorer.

        Functions that the stored rule `present` names are not checked again. So a rule with a
        deleted function can still be paused, or have that function removed.
        """
        online = body.config.online if body.config else None
        checked = _named(present.config if present else None)
        for index, scorer in enumerate(online.scorers if online else ()):
            if isinstance(scorer, GlobalScorer) or (scorer.id, scorer.version) in checked:
                continue
            self._check_function(
                principal, scorer.id, scorer.version, path=f"config.online.scorers.{index}"
            )

    def _check_function(
        self, principal: Principal, text: str, version: str | None, *, path: str
    ) -> None:
        at = None if version is None else read_version(version)
        which = FunctionById(id=FunctionId(UUID(text)), version=at)   # the body is checked
        try:
            function = self._lookup.find(principal, which)
        except NotFound as error:
            suffix = "" if at is None else f" of version {at}"
            raise BadInput(
                f"there is no function {text}{suffix}; see GET /v1/function", path=path
            ) from error
        if function.body.queue is None:
            raise BadInput(
                f"the function {function.body.name!r} is not a scorer: name one that is code, "
                "a prompt with an llm_classifier parser, or global",
                path=path,
            )


def _named(config: JsonObject | None) -> set[tuple[Json, Json]]:
    """(id, version) of the functions that a stored rule names."""
    online = config.get("online") if config else None
    scorers = online.get("scorers") if isinstance(online, dict) else None
    return {
        (scorer.get("id"), scorer.get("version"))
        for scorer in (scorers if isinstance(scorers, list) else ())
        if isinstance(scorer, dict)
    }
