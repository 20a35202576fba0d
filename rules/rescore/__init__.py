"""What a re-score job is: its selection, its states, its plan and its report. Pure."""

from __future__ import annotations
