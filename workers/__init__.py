"""Celery: queues, tasks and the processes that run them."""

from __future__ import annotations
