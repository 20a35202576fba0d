"""The filter and query language, compiled to SQL over the table `span`, and run."""

from __future__ import annotations
