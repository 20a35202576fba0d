"""A row's visible scores in SQL. Statements that read a row's scores take them from here.

A score that a client or a person logged is shown instead of a computed score of the same
name. A logged null hides no computed score. `spans.row.visible_scores` has the same meaning.
"""

from __future__ import annotations

from store.postgres.tables import span

VISIBLE_SCORES_SQL = "span.scores"
"""The scores as raw SQL, of type jsonb, in a statement whose FROM names `span`."""

VISIBLE_SCORES = span.c.scores
"""The scores as a SQLAlchemy expression over the table `span`."""
