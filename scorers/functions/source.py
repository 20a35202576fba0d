"""Gives workers the functions that outcomes name, and caches them."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from cachetools import LRUCache

from scorers.functions.version import FunctionKind, FunctionVersion
from spans.errors import BadInput
from spans.ids import FunctionId, Xact, parse_uuid
from spans.scoring import ScorerRef

KEPT = 1024
"""Most versions that a process caches. One takes a few kB."""


VersionOf = Callable[[FunctionId, Xact], FunctionVersion | None]
"""Reads a version of a function from the store, even if the function has been deleted since.
None if there is none."""


class KeptFunctions:
    """Functions by the ScorerRef that an outcome names.

    Each version is read from the store once, since it never changes. Threads may share it.
    """

    def __init__(self, version_of: VersionOf) -> None:
        self._version_of = version_of
        self._kept: LRUCache[ScorerRef, FunctionVersion] = LRUCache(KEPT)
        self._lock = Lock()   # cachetools' caches are not thread-safe

    def kept(self, scorer: ScorerRef) -> FunctionVersion | None:
        """The function at exactly that version if it is cached. Never waits for the store."""
        with self._lock:
            return self._kept.get(scorer)

    def function(self, scorer: ScorerRef) -> FunctionVersion:
        """The function at exactly that version, from the cache or the store."""
        known = self.kept(scorer)
        if known is not None:
            return known
        function_id = parse_uuid(scorer.name)
        if function_id is None or not scorer.version.isdecimal():
            raise BadInput(f"{scorer.name} {scorer.version} names no function")
        found = self._version_of(FunctionId(function_id), Xact(int(scorer.version)))
        if found is None:
            raise BadInput(
                f"there is no function {scorer.name} at version {scorer.version}: it has been "
                "deleted; take it out of the rule"
            )
        # A version whose bundle has not been uploaded yet still changes once, so it is not
        # cached.
        if found.kind is not FunctionKind.CODE or found.program is not None:
            with self._lock:
                self._kept[scorer] = found
        return found
