"""The Celery application's settings; each differs from the default for the reason beside it."""

from __future__ import annotations

from celery import Celery
from kombu.transport import TRANSPORT_ALIASES

QUEUES = ("match", "heavy", "judge", "sandbox", "upkeep")

BEAT_S = 5.0
"""How often beat rings every queue: the longest that a lost ring can delay work."""

UPKEEP_S = 60.0


def make_celery(redis_url: str) -> Celery:
    """A Celery application that speaks to `redis_url`; opens nothing yet."""
    # By its alias, since the scheme of a unix socket (`redis+socket`) allows no other way.
    TRANSPORT_ALIASES["redis"] = TRANSPORT_ALIASES["rediss"] = "wiring.transport:Transport"
    app = Celery("tallyard")
    app.conf.update(
        broker_url=_broker_url(redis_url),
        result_backend=None,                 # answers stand in PostgreSQL
        task_ignore_result=True,
        accept_content=["json"],             # pickle would run what the broker says
        task_serializer="json",
        task_queues={name: {} for name in QUEUES},
        task_default_queue="match",
        task_create_missing_queues=False,    # a misspelt -Q is an error, not a silent queue
        task_acks_late=False,                # a lost ring costs nothing (docs/decisions/0009)
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,     # our own log format
        worker_send_task_events=True,        # Flower shows nothing without
        task_send_sent_event=True,
        worker_max_tasks_per_child=2000,
        worker_max_memory_per_child=400_000,  # KiB
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "visibility_timeout": 3600,      # seconds; leases decide, not redelivery
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,   # the default finds a dead worker's after 100 s
            "socket_timeout": 10,
            "socket_keepalive": True,
            "health_check_interval": 25,     # notices a connection that is only half open
        },
        beat_schedule={
            **{
                f"ring {queue}": {
                    "task": f"tallyard.{task}", "schedule": BEAT_S,
                    "options": {"queue": queue, "expires": BEAT_S},
                }
                for queue, task in (
                    ("match", "match"), ("heavy", "score_heavy"), ("judge", "judge"),
                    ("sandbox", "sandbox"),
                )
            },
            "ring upkeep": {
                "task": "tallyard.upkeep", "schedule": UPKEEP_S,
                "options": {"queue": "upkeep", "expires": UPKEEP_S},
            },
        },
        timezone="UTC",
        enable_utc=True,
    )
    return app


def _broker_url(redis_url: str) -> str:
    """Kombu's spelling of a Redis URL: its unix sockets are `redis+socket`."""
    if redis_url.startswith("unix://"):
        return "redis+socket://" + redis_url.removeprefix("unix://")
    return redis_url
