"""The sandboxes of a worker: proved before the first is used, and let go when idle.

A worker that cannot contain says why on `/health/ready` and in the metrics, and takes no code.
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
"""How often it looks for unpacked bundles that nobody uses."""

DAY_S = 86400.0
SEEN_S = 15.0
"""How often a worker says that it is there, and looks for sandboxes that nobody uses."""

HAND_OVER_S = 3.0
"""How long a worker that ends waits for its calls to be given back: some milliseconds each."""


class WorkerSandboxes:
    """This process's sandboxes, if it can contain anything; `sentence` says why it cannot."""

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
            logger.info("sandbox: %s contains what it should", self._told.tier)
        else:
            logger.error("%s", self.sentence)
        threading.Thread(target=self._keep, name="sandboxes", daemon=True).start()

    def stop(self) -> None:
        """Give up what is under way, not wait for it: its claims go back. Returns at once, for
        whoever handles a signal."""
        if self.drain is not None:
            self.drain.stopping.set()
        if self._sandboxes is not None:
            threading.Thread(target=self._sandboxes.close, name="stop sandboxes").start()

    def close(self) -> None:
        """End every sandbox, and say that this worker is gone."""
        self._stopped.set()
        if self._sandboxes is not None:
            self._sandboxes.close()
        if self._calls is not None:
            self._calls.finish(within_s=HAND_OVER_S)
            # While this worker was ending, it may have been the one that heard the others ring.
            self._services.bell.answer(SANDBOX)
            self._services.bell.ring_now(SANDBOX)
        try:
            self._services.sandbox_workers.gone()
        except TransientError as error:
            logger.warning("sandbox: %s; the others will notice in a minute", error)

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
                self._services.sandbox_workers.seen(self._told)
            except TransientError as error:
                logger.warning("sandbox: %s; told later that this worker is there", error)
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
                logger.info("sandbox: %d unpacked bundles were not used any more", dropped)
