"""A purse in memory, from which the calls of one run of a scorer are paid."""

from __future__ import annotations

from dataclasses import dataclass, field

from spans.errors import BudgetSpent, NoPrice


@dataclass
class MemoryPurse:
    """Implements scorers.judge.purse.Purse. `money` is what is left, in billionths; None: only
    calls are counted. `receipts` are those of the calls that were allowed, in their order."""

    money: int | None = None
    answer_tokens: int = 100
    receipts: list[MemoryReceipt] = field(default_factory=list)

    async def answer_tokens_max(self) -> int | None:
        return None if self.money is None else self.answer_tokens

    async def reserve(self, dearest: int | None) -> MemoryReceipt | None:
        if self.money is not None:
            if dearest is None:
                raise NoPrice("the model has no price")
            if dearest > self.money:
                raise BudgetSpent(f"{dearest} of {self.money}", budget_no=7)
            self.money -= dearest
        receipt = MemoryReceipt(purse=self, reserved=dearest or 0)
        self.receipts.append(receipt)
        return receipt


@dataclass
class MemoryReceipt:
    """Implements scorers.judge.purse.Receipt. `spent` is None until it is settled."""

    purse: MemoryPurse
    reserved: int
    spent: int | None = None

    def settle(self, money: int | None) -> None:
        assert self.spent is None
        self.spent = self.reserved if money is None else money
        if self.purse.money is not None:
            self.purse.money += self.reserved - self.spent

    def give_back(self) -> None:
        self.settle(0)
