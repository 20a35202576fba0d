"""The Celery application: `celery -A workers worker -Q match`."""

from __future__ import annotations

from wiring.celery import make_celery
from wiring.settings import read_settings

_redis_url = read_settings().redis_url
app = make_celery(_redis_url.get_secret_value() if _redis_url else "redis://")
app.conf.imports = ("workers.tasks", "workers.signals")
