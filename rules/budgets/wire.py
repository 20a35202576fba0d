"""Budgets as clients send and see them."""

from __future__ import annotations

from typing import Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rules.budgets.model import (
    BILLION,
    MONEY_MAX,
    Budget,
    BudgetUse,
    Caps,
    Period,
    amount_of,
    money_of,
)
from rules.budgets.reserve import next_day
from spans.json import JsonObject
from spans.validation import read_model

CALLS_MAX = 10**12
"""The largest cap on calls: no judge answers as many."""


class CapsBody(BaseModel):
    """Caps as a client sends them. `money` is in the unit of the prices."""

    model_config = ConfigDict(extra="forbid")

    money: float | None = Field(None, ge=0, le=MONEY_MAX // BILLION, allow_inf_nan=False)
    calls: int | None = Field(None, ge=0, le=CALLS_MAX)

    @model_validator(mode="after")
    def _caps_something(self) -> Self:
        if self.money is None and self.calls is None:
            raise ValueError("must have money, calls or both")
        return self

    @property
    def caps(self) -> Caps:
        """The caps, with money in billionths."""
        return Caps(
            money=None if self.money is None else money_of(self.money), calls=self.calls
        )


class BudgetBody(CapsBody):
    """A budget as a client sends it: of a rule or a job of the project, else of the project."""

    rule_id: UUID | None = None
    job_id: UUID | None = None
    period: Period

    @model_validator(mode="after")
    def _has_one_subject(self) -> Self:
        if self.rule_id is not None and self.job_id is not None:
            raise ValueError("must have rule_id or job_id, not both")
        return self


def read_budget(body: JsonObject) -> BudgetBody:
    """The checked body. Raises BadInput, which names the field."""
    return read_model(BudgetBody, body)


def budget_json(budget: Budget) -> JsonObject:
    """A budget without what is spent of it."""
    caps = budget.caps
    return {
        "id": str(budget.id),
        "project_id": str(budget.project_id),
        "subject": str(budget.subject_kind),
        "subject_id": str(budget.subject_id),
        "period": str(budget.period),
        "money": None if caps.money is None else amount_of(caps.money),
        "calls": caps.calls,
        "created": budget.created.isoformat(),
        "created_by": budget.created_by,
    }


def use_json(use: BudgetUse) -> JsonObject:
    """What is spent and reserved, and when a day's budget begins anew."""
    return {
        "money_spent": amount_of(use.money_spent),
        "money_reserved": amount_of(use.money_reserved),
        "calls_spent": use.calls_spent,
        "calls_reserved": use.calls_reserved,
        "renewed_at": None if use.day is None else next_day(use.day).isoformat(),
    }
