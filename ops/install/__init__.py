"""Installs all that Tallyard needs (`python -m ops.install`), before any package is there.

It runs under the Python that `make` found, so it imports the standard library alone.
"""

from __future__ import annotations
