"""Keeps the list of sandbox workers, and whether the sandbox of each one holds."""

from __future__ import annotations

import orjson

from flows.health.measurements import SandboxWorker
from store.postgres.database import Database

PRESENT_S = 60.0
"""A worker that has not reported for this long counts as stopped, seconds. Each worker reports
every 15 s."""

FORGOTTEN_S = 3600.0
"""The row of a worker that has not reported for this long is deleted, seconds."""


class SandboxWorkers:
    """What each sandbox worker last reported about itself."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def report(self, worker: SandboxWorker) -> None:
        """Store the report of this process, and delete the rows of workers long stopped."""
        with self._database.cursor() as cursor:
            cursor.execute(
                """insert into sandbox_worker (owner, host, tier, is_ok, sentence, probes)
                   values (%s, %s, %s, %s, %s, %s)
                   on conflict (owner) do update
                      set host = excluded.host, tier = excluded.tier, is_ok = excluded.is_ok,
                          sentence = excluded.sentence, probes = excluded.probes,
                          seen_at = now()""",
                (
                    self._database.owner, worker.host, worker.tier, worker.is_ok,
                    worker.sentence, orjson.dumps(dict(worker.probes)).decode(),
                ),
            )
            cursor.execute(
                "delete from sandbox_worker where seen_at < now() - make_interval(secs => %s)",
                (FORGOTTEN_S,),
            )

    def remove_own(self) -> None:
        """Delete the row of this process, because it stops."""
        with self._database.cursor() as cursor:
            cursor.execute(
                "delete from sandbox_worker where owner = %s", (self._database.owner,)
            )

    def refusal(self) -> str | None:
        """Why no running worker accepts code. None if one of them does, or if none runs yet."""
        present = self.present()
        if not present or any(worker.is_ok for worker in present):
            return None
        return f"no worker can run code: {present[0].sentence}"

    def present(self) -> list[SandboxWorker]:
        """The workers that reported within PRESENT_S, ordered by host."""
        with self._database.cursor() as cursor:
            cursor.execute(
                """select host, tier, is_ok, sentence, probes from sandbox_worker
                    where seen_at > now() - make_interval(secs => %s)
                    order by host, owner""",
                (PRESENT_S,),
            )
            return [
                SandboxWorker(
                    host=host, tier=tier, is_ok=is_ok, sentence=sentence, probes=probes
                )
                for host, tier, is_ok, sentence, probes in cursor
            ]
