"""A worker's sandboxes. A self-test proves them before the first use; idle ones are ended.

A worker whose sandboxes do not contain code runs none. `/health/ready` and the metrics say why.
"""

from __future__ import annotations

import logging
import socket
import threading
import time

from flows.health.measurements import SandboxWorker
from flows.invocations.server import InvocationServer
from flows.scoring.drain import Drain
from scorers.sandbox.bundles import drop_unused
from scorers.sandbox.place import Place
from scorers.sandbox.pool import Sandboxes
from scorers.sandbox.selftest import prove
from spans.errors import SandboxUnavailable, TransientError
from spans.queues import SANDBOX
from wiring.services import Services
from wiring.workers import sandbox_drain, sandbox_place

logger = logging.getLogger(__name__)

DROP_S = 3600.0
"""How often a worker looks for unpacked bundles to remove, seconds."""

DAY_S = 86400.0
SEEN_S = 15.0
"""How often a worker reports that it is alive, and ends idle sandboxes, seconds."""

HAND_OVER_S = 3.0
"""How long a worker that ends waits until its invocations are given back, seconds. One takes
milliseconds."""


class WorkerSandboxes:
    """This process's sandboxes, their drain, and the server of interactive invocations.

    `drain` is None if this machine cannot contain code; `sentence` then says why. A thread
    reports this worker to the store, ends idle sandboxes and removes unused bundles.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._stopped = threading.Event()
        self._dropped_at = -DROP_S     # by time.monotonic
        self._sandboxes: Sandboxes | None = None
        self.drain: Drain | None = None
        self._calls: InvocationServer | None = None
        self._told = self._prove()
        self.sentence = self._told.sentence
        if self._told.is_ok:
            logger.info("sandbox: the self-test of %s passed", self._told.tier)
        else:
            logger.error("%s", self.sentence)
        threading.Thread(target=self._keep, name="sandboxes", daemon=True).start()

    def stop(self) -> None:
        """Gives up what is under way, so that its claims go back.

        Returns at once, because a signal handler calls it.
        """
        if self.drain is not None:
            self.drain.stopping.set()
        if self._sandboxes is not None:
            threading.Thread(target=self._sandboxes.close, name="stop sandboxes").start()

    def close(self) -> None:
        """Ends every sandbox, and reports that this worker is gone."""
        self._stopped.set()
        if self._sandboxes is not None:
            self._sandboxes.close()
        if self._calls is not None:
            self._calls.finish(within_s=HAND_OVER_S)
            # A ring may have reached this worker while it was ending. Another must hear it.
            self._services.bell.answer(SANDBOX)
            self._services.bell.ring_now(SANDBOX)
        try:
            self._services.sandbox_workers.remove_own()
        except TransientError as error:
            logger.warning("sandbox: %s; others notice in a minute that it is gone", error)

    def _prove(self) -> SandboxWorker:
        host = socket.gethostname()
        try:
            place = sandbox_place(self._services.settings)
        except SandboxUnavailable as error:
            return SandboxWorker(
                host=host, tier=None, is_ok=False, sentence=str(error), probes={}
            )
        proof = prove(place)
        if proof.ok:
            settings = self._services.settings
            self._sandboxes = Sandboxes(
                place, kept=settings.sandbox_kept, idle_s=settings.sandbox_idle_s
            )
            self.drain, self._calls = sandbox_drain(self._services, self._sandboxes)
        return SandboxWorker(
            host=host, tier=proof.tier, is_ok=proof.ok, sentence=proof.sentence,
            probes=proof.probes,
        )

    def _keep(self) -> None:
        while True:
            try:
                self._services.sandbox_workers.report(self._told)
            except TransientError as error:
                logger.warning("sandbox: %s; this worker reports again in some seconds", error)
            if self._stopped.wait(SEEN_S):
                return
            if self._sandboxes is not None:
                self._sandboxes.let_go_idle()
                self._drop_bundles(self._sandboxes.place)

    def _drop_bundles(self, place: Place) -> None:
        if time.monotonic() - self._dropped_at > DROP_S:
            self._dropped_at = time.monotonic()
            unused_s = self._services.settings.bundle_unused_days * DAY_S
            if dropped := drop_unused(place, unused_s=unused_s):
                logger.info("sandbox: removed %d unused bundles", dropped)
