"""Keeps invocations, and hands their answers to the threads that wait for them."""

from __future__ import annotations
