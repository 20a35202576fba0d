"""The Celery application of workers, beat and Flower, made from the settings."""

from __future__ import annotations

from wiring.celery import make_celery, task_annotations
from wiring.settings import read_settings

_settings = read_settings()
_redis_url = _settings.redis_url
app = make_celery(_redis_url.get_secret_value() if _redis_url else "redis://")
app.conf.task_annotations = task_annotations(_settings)
app.conf.imports = ("workers.tasks", "workers.signals")
