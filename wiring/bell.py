"""The bell: tells a queue's workers that there may be work. A ring carries no data.

The work itself is in PostgreSQL. So a lost ring only delays work until beat rings, within
seconds, and a doubled ring does no harm. A flag in Redis for each queue keeps a thousand
requests from ringing a thousand times; the worker clears the flag before it looks for work.

A process may stay awake for a queue: it looks again within a moment, without being rung for. A
second key in Redis says so, and while it is there a ring sends no message.
"""

from __future__ import annotations

import logging
import threading
import uuid

import redis
from celery import Celery
from kombu.exceptions import KombuError

from spans.queues import QUEUES, Queue

logger = logging.getLogger(__name__)

FLAG_LIFE_MS = 5000
"""How long a flag lasts. If its ring was lost, the queue cannot be rung for this long."""

AWAKE_MS = 2000
"""How long a process counts as awake after it last said so: longer than it takes to match what
it then finds. If it died, the queue cannot be rung for this long, or until its flag ends."""

REDIS_TIMEOUT_S = 2.0


class Bell:
    """Rings queues. It uses a thread of its own, so a slow Redis never delays a request."""

    def __init__(
        self, celery: Celery, redis_url: str, queues: tuple[Queue, ...] = QUEUES
    ) -> None:
        self._celery = celery
        self._tasks = {queue.name: queue.task for queue in queues}
        self._redis = redis.Redis.from_url(
            redis_url, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S
        )
        self._name = uuid.uuid4().bytes   # tells who is awake
        self._wanted: set[str] = set()
        self._is_wanted = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def ring(self, queue: str) -> None:
        """Ring the queue soon, from the bell's thread. Returns at once and never raises."""
        with self._lock:
            self._wanted.add(queue)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._ring_for_ever, name="bell", daemon=True
                )
                self._thread.start()
        self._is_wanted.set()

    def answer(self, queue: str) -> None:
        """Clear the queue's flag, so that later rings arrive. Call before looking for work."""
        try:
            self._redis.delete(_flag(queue))
        except redis.RedisError as error:
            logger.warning("bell: Redis does not answer (%s)", type(error).__name__)

    def stay_awake(self, queue: str) -> bool:
        """Say that this process looks at the queue again soon; False if another one does.

        While it is awake, rings send no message. It must call `stay_awake` again within
        AWAKE_MS, or call `fall_asleep` and then look for work once more.
        """
        key = _awake(queue)
        try:
            is_mine = self._redis.get(key) == self._name
            return bool(self._redis.set(key, self._name, px=AWAKE_MS, nx=not is_mine))
        except redis.RedisError as error:
            logger.warning("bell: Redis does not answer (%s)", type(error).__name__)
            return True   # no ring arrives now, so it is good that somebody looks

    def fall_asleep(self, queue: str) -> None:
        """Make later rings send messages again."""
        try:
            self._redis.delete(_awake(queue), _flag(queue))
        except redis.RedisError as error:
            logger.warning("bell: Redis does not answer (%s)", type(error).__name__)

    def is_reachable(self) -> bool:
        """Whether Redis answers."""
        try:
            return bool(self._redis.ping())
        except redis.RedisError:
            return False

    def _ring_for_ever(self) -> None:
        while True:
            self._is_wanted.wait()
            self._is_wanted.clear()
            with self._lock:
                queues, self._wanted = self._wanted, set()
            for queue in queues:
                self.ring_now(queue)

    def ring_now(self, queue: str) -> None:
        """Ring the queue and wait until that is done, for a process that is about to end."""
        try:
            if not self._redis.set(_flag(queue), 1, nx=True, px=FLAG_LIFE_MS):
                return   # a ring is on its way, or a process is awake
            if not self._redis.exists(_awake(queue)):
                self._celery.send_task(self._tasks[queue], retry=False)
        except (redis.RedisError, KombuError, OSError) as error:
            logger.warning("bell: Redis does not answer (%s)", type(error).__name__)


def _flag(queue: str) -> str:
    return f"tallyard:bell:{queue}"


def _awake(queue: str) -> str:
    return f"tallyard:awake:{queue}"
