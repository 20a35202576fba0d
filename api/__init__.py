"""JSON over HTTP: parse, call one flow, render."""

from __future__ import annotations
