"""The Celery application: `celery -A workers worker -Q match`."""

from __future__ import annotations

from wiring.celery import make_celery
from wiring.settings import read_settings

_settings = read_settings()
_redis_url = _settings.redis_url
app = make_celery(_redis_url.get_secret_value() if _redis_url else "redis://")
# A scorer that runs here cannot be interrupted, only its process be killed.
app.conf.task_annotations = {
    "tallyard.score_heavy": {"time_limit": _settings.heavy_timeout_s}
}
app.conf.imports = ("workers.tasks", "workers.signals")
