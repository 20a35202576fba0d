"""Making, changing and listing rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol
from uuid import UUID

from flows.access.projects import ListPage
from rules.wire import GlobalScorer, ProjectScore, ProjectScoreBody
from scorers.functions.function import Function, read_version
from spans.errors import BadInput
from spans.ids import FunctionId, OrgId, ProjectId, RuleId, Xact
from spans.json import Json, JsonObject


class RuleStore(Protocol):
    """Where rules are kept. Each change makes a new revision of the project's rule set."""

    def create_rule(
        self, project_id: ProjectId, new_id: RuleId, body: ProjectScoreBody, *, replace: bool
    ) -> tuple[ProjectScore, bool]:
        """The rule of this name, and whether it was there before.

        An existing one comes back as it is, or with `replace` becomes what is given.
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
        """What `patch` makes of the rule as it is when nobody else can change it.

        Raises NotFound if it has been deleted meanwhile.
        """
        ...

    def delete_rule(self, rule: ProjectScore) -> None:
        """Remove the rule, and what waits to be scored for it; its scores stay."""
        ...


class FunctionFinder(Protocol):
    """What checking a rule's functions needs of stored data."""

    def find(
        self, org_id: OrgId, function_id: FunctionId, version: Xact | None = None
    ) -> Function | None: ...


def check_functions(
    store: FunctionFinder, org_id: OrgId, body: ProjectScoreBody, *,
    only: ProjectId | None = None, present: ProjectScore | None = None,
) -> None:
    """Raises BadInput where the rule names a function that is not there, or that is no
    scorer. A key for one project reaches no functions but its own: `only`.

    What the rule names at `present` is not asked for again: a rule over a function that has
    been deleted can still be paused, or have the function taken out.
    """
    online = body.config.online if body.config else None
    kept = _named(present.config if present else None)
    for index, one in enumerate(online.scorers if online else ()):
        if isinstance(one, GlobalScorer) or (one.id, one.version) in kept:
            continue
        path = f"config.online.scorers.{index}"
        version = None if one.version is None else read_version(one.version)
        function = store.find(org_id, FunctionId(UUID(one.id)), version)
        if function is None or only not in {None, function.project_id}:
            at = "" if version is None else f" of version {version}"
            raise BadInput(
                f"there is no function {one.id}{at}; see GET /v1/function", path=path
            )
        if function.body.queue is None:
            raise BadInput(
                f"the function {function.body.name!r} is no scorer: name one that is code, a "
                "prompt with an llm_classifier parser, or global",
                path=path,
            )


def _named(config: JsonObject | None) -> set[tuple[Json, Json]]:
    """(id, version) of the functions that a stored rule names."""
    online = config.get("online") if config else None
    scorers = online.get("scorers") if isinstance(online, dict) else None
    return {
        (one.get("id"), one.get("version"))
        for one in (scorers if isinstance(scorers, list) else ())
        if isinstance(one, dict)
    }
