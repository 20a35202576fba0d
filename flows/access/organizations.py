"""Organisations, which projects and keys belong to."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Protocol

from flows.access.principal import KeyRole, Principal
from spans.ids import OrgId

COMMAND_LINE = "command line"
"""Stands for the id of a key when a command is the caller: commands need no key."""


class OrganizationStore(Protocol):
    """Where organisations are kept."""

    def ensure_organization(self, org_id: OrgId, name: str) -> OrgId:
        """The id of the organisation with this name, which is created with `org_id` if needed.
        """
        ...


class Organizations:
    """The organisations of one database."""

    def __init__(
        self, store: OrganizationStore, *, new_id: Callable[[], uuid.UUID] = uuid.uuid4
    ) -> None:
        self._store = store
        self._new_id = new_id

    def administrator(self, name: str) -> Principal:
        """An administrator of the organisation with this name, which is created if needed.

        Only for commands on this machine: whoever runs them can read the database's URL, so
        they need no key.
        """
        org_id = self._store.ensure_organization(OrgId(self._new_id()), name)
        return Principal(
            key_id=COMMAND_LINE, key_name=COMMAND_LINE, org_id=org_id, org_name=name,
            project_id=None, role=KeyRole.ADMIN,
        )
