"""The shape of a line in a task file of env=tools, and what is hidden in it."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from agentdistill.types import Record
from agentdistill_envs.tools.catalogue import TOOLS, Reason


class User(Record):
    name: str
    city: str
    card: str


class Product(Record):
    item: str
    price: int = Field(ge=0)
    stock: int = Field(ge=0)


class Order(Record):
    user: str
    product: str
    status: Literal["open", "paid", "shipped", "cancelled"]
    payment: str | None = None
    parcel: str | None = None


class Payment(Record):
    amount: int = Field(ge=0)
    card: str
    refund: str | None = None


class Parcel(Record):
    city: str
    days: int = Field(ge=0)


class Refund(Record):
    amount: int = Field(ge=0)


class Ticket(Record):
    order: str
    reason: Reason


class ShopRecords(Record):
    """What the shop holds when the task begins: by sort, then by id."""

    user: dict[str, User]
    product: dict[str, Product] = Field(default_factory=dict)
    order: dict[str, Order] = Field(default_factory=dict)
    payment: dict[str, Payment] = Field(default_factory=dict)
    parcel: dict[str, Parcel] = Field(default_factory=dict)
    refund: dict[str, Refund] = Field(default_factory=dict)
    ticket: dict[str, Ticket] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _points_somewhere(self) -> Self:
        for id, order in self.order.items():
            for sort, target in (("user", order.user), ("product", order.product), ("payment", order.payment), ("parcel", order.parcel)):
                if target is not None and target not in getattr(self, sort):
                    raise ValueError(f"order {id} names the {sort} {target!r}, which is not in the shop")
        return self


class Wanted(Record):
    """One call that the task is about, with its true arguments."""

    tool: str
    arguments: dict[str, str | int]

    @model_validator(mode="after")
    def _fits_the_tool(self) -> Self:
        if self.tool not in TOOLS:
            raise ValueError(f"no tool {self.tool!r}; there are: {', '.join(TOOLS)}")
        if set(self.arguments) != set(TOOLS[self.tool].takes):
            raise ValueError(f"{self.tool} takes {', '.join(TOOLS[self.tool].takes)}, not {', '.join(self.arguments) or 'nothing'}")
        return self


class Asked(Wanted):
    """What the answer must tell: a field of what a call says."""

    field: str

    @model_validator(mode="after")
    def _only_looks(self) -> Self:
        if TOOLS[self.tool].changes:
            raise ValueError(f"{self.tool} changes the shop; a question is answered by a tool that only looks")
        if self.field not in TOOLS[self.tool].gives:
            raise ValueError(f"{self.tool} gives {', '.join(TOOLS[self.tool].gives)}, not {self.field!r}")
        return self


class ToolsData(Record):
    """What the student does not see of a task."""

    shop: ShopRecords
    changes: tuple[Wanted, ...] = ()
    """What must have been done in the end, in an order in which it can be done. Nothing else may have."""
    asks: Asked | None = None
    known: tuple[str, ...] = ()
    """Names, items, cities and ids that the question tells."""
    turns: int = Field(ge=2)
    """Of optimal play: its calls, one a turn, and the last word."""

    @model_validator(mode="after")
    def _is_about_something(self) -> Self:
        if not self.changes and self.asks is None:
            raise ValueError("a task needs 'changes' or 'asks'")
        for wanted in self.changes:
            if not TOOLS[wanted.tool].changes:
                raise ValueError(f"{wanted.tool} changes nothing, so it cannot be one of 'changes'")
        return self


class ToolsRow(Record):
    """One line of a task file; ``schema.json`` beside the files is made from it."""

    id: str = Field(min_length=1)
    question: str = Field(min_length=1)
    data: ToolsData
