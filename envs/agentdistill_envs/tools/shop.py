"""The shop: records of seven sorts, and the fifteen things that can be asked of it.

    user u17 ── card c40, city          order o42 ── user, product, status ── payment y31 ── refund r88
    product p08 ── price, stock                                             └ parcel s12      ticket t55 ── order

Whoever asks for something that cannot be gets a :class:`ToolError` that says what is wrong and what there is to do, and nothing has
changed. The id of a new record is decided by what it is about, so the same changes in another order lead to the same shop.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Mapping
from typing import Any

from agentdistill.env import ToolError

Records = dict[str, dict[str, dict[str, Any]]]
"""By sort, then by id."""

LETTERS = {"user": "u", "product": "p", "order": "o", "payment": "y", "parcel": "s", "refund": "r", "ticket": "t"}
"""First character of the ids of each sort."""
_SORTS = {letter: sort for sort, letter in LETTERS.items()} | {"c": "card"}


class Shop:
    """A shop, and what was done to it."""

    def __init__(self, records: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
        self.records: Records = {sort: {id: dict(row) for id, row in records.get(sort, {}).items()} for sort in LETTERS}

    def copy(self) -> Shop:
        """Another shop in the same state."""
        return Shop(self.records)

    def call(self, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """What the tool of that name answers.

        Raises:
            ToolError: it cannot be done; nothing has changed.
        """
        answer: dict[str, Any] = getattr(self, tool)(**arguments)
        return answer

    # ---- looking --------------------------------------------------------------------------------------------------

    def find_user(self, name: str) -> dict[str, Any]:
        return {"user": self._named("user", "name", name)}

    def get_user(self, user: str) -> dict[str, Any]:
        return dict(self._record("user", user))

    def last_order(self, user: str) -> dict[str, Any]:
        self._record("user", user)
        mine = [id for id, order in self.records["order"].items() if order["user"] == user]
        if not mine:
            raise ToolError(f"{user} has no orders")
        return {"order": mine[-1]}

    def get_order(self, order: str) -> dict[str, Any]:
        return {key: value for key, value in self._record("order", order).items() if value is not None}

    def find_product(self, item: str) -> dict[str, Any]:
        return {"product": self._named("product", "item", item)}

    def get_product(self, product: str) -> dict[str, Any]:
        return dict(self._record("product", product))

    def get_payment(self, payment: str) -> dict[str, Any]:
        return {key: value for key, value in self._record("payment", payment).items() if value is not None}

    def track_parcel(self, parcel: str) -> dict[str, Any]:
        return dict(self._record("parcel", parcel))

    # ---- changing -------------------------------------------------------------------------------------------------

    def create_order(self, user: str, product: str) -> dict[str, Any]:
        self._record("user", user)
        goods = self._record("product", product)
        if goods["stock"] < 1:
            raise ToolError(f"{product} is out of stock; restock it first")
        goods["stock"] -= 1
        row = {"user": user, "product": product, "status": "open", "payment": None, "parcel": None}
        return {"order": self._add("order", f"{user} {product}", row)}

    def pay_order(self, order: str, card: str) -> dict[str, Any]:
        row = self._record("order", order)
        self._in_status(order, row, "open")
        owner = self.records["user"][row["user"]]
        if card != owner["card"]:
            raise ToolError(f"{card} is not the card of {row['user']}, who ordered; get_user tells it")
        amount = self.records["product"][row["product"]]["price"]
        payment = self._add("payment", f"{order} {card}", {"amount": amount, "card": card, "refund": None})
        row.update(status="paid", payment=payment)
        return {"payment": payment}

    def ship_order(self, order: str, city: str) -> dict[str, Any]:
        row = self._record("order", order)
        self._in_status(order, row, "paid")
        parcel = self._add("parcel", f"{order} {city}", {"city": city, "days": 1 + _number(f"days {order} {city}") % 9})
        row.update(status="shipped", parcel=parcel)
        return {"parcel": parcel}

    def cancel_order(self, order: str) -> dict[str, Any]:
        row = self._record("order", order)
        self._in_status(order, row, "open", "paid")
        row["status"] = "cancelled"
        return {"status": "cancelled"}

    def refund_payment(self, payment: str) -> dict[str, Any]:
        row = self._record("payment", payment)
        if row["refund"] is not None:
            raise ToolError(f"{payment} is already refunded")
        row["refund"] = self._add("refund", payment, {"amount": row["amount"]})
        return {"refund": row["refund"]}

    def restock_product(self, product: str, count: int) -> dict[str, Any]:
        row = self._record("product", product)
        if not 1 <= count <= 99:
            raise ToolError("count must be 1 to 99")
        row["stock"] += count
        return {"stock": row["stock"]}

    def open_ticket(self, order: str, reason: str) -> dict[str, Any]:
        self._record("order", order)
        if any(ticket == {"order": order, "reason": reason} for ticket in self.records["ticket"].values()):
            raise ToolError(f"there is a ticket for {order} already: {reason}")
        return {"ticket": self._add("ticket", f"{order} {reason}", {"order": order, "reason": reason})}

    # ---- records --------------------------------------------------------------------------------------------------

    def _named(self, sort: str, field: str, value: str) -> str:
        for id, row in self.records[sort].items():
            if row[field] == value:
                return id
        raise ToolError(
            f"no {sort} has the {field} {value[:40]!r}; there are: {', '.join(row[field] for row in self.records[sort].values())}"
        )

    def _record(self, sort: str, id: str) -> dict[str, Any]:
        if id in self.records[sort]:
            return self.records[sort][id]
        other = _SORTS.get(id[:1]) if id[1:].isdigit() else None
        if other is not None and other != sort:
            raise ToolError(f"{id} is the id of a {other}, not of a {sort}")
        raise ToolError(f"no {sort} {id[:40]!r}")

    def _in_status(self, order: str, row: Mapping[str, Any], *allowed: str) -> None:
        if row["status"] not in allowed:
            raise ToolError(f"{order} is {row['status']}; it must be {' or '.join(allowed)}")

    def _add(self, sort: str, about: str, row: dict[str, Any]) -> str:
        taken = self.records[sort]
        first = _number(f"{sort} {about}") % 90
        for step in itertools.count():
            id = f"{LETTERS[sort]}{10 + ((first + step) % 90 if step < 90 else step)}"
            if id not in taken:
                break
        taken[id] = row
        return id


def _number(text: str) -> int:
    """The same for the same text on every machine."""
    return zlib.crc32(text.encode())
