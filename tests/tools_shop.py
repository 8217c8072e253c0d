"""A small shop with known contents, and tasks in it."""

from __future__ import annotations

from typing import Any

from agentdistill_envs.tools.tasks import make_task

from agentdistill.types import Task

SHOP: dict[str, Any] = {
    "user": {"u10": {"name": "Ann", "city": "Oslo", "card": "c10"}, "u20": {"name": "Ben", "city": "Rome", "card": "c20"}},
    "product": {"p10": {"item": "lamp", "price": 7, "stock": 3}, "p20": {"item": "pen", "price": 2, "stock": 0}},
    "order": {
        "o10": {"user": "u10", "product": "p10", "status": "open"},
        "o20": {"user": "u10", "product": "p10", "status": "paid", "payment": "y20"},
        "o30": {"user": "u20", "product": "p20", "status": "shipped", "payment": "y30", "parcel": "s30"},
    },
    "payment": {"y20": {"amount": 7, "card": "c10"}, "y30": {"amount": 2, "card": "c20"}},
    "parcel": {"s30": {"city": "Rome", "days": 4}},
}

REFUND = {"tool": "refund_payment", "arguments": {"payment": "y20"}}
CANCEL = {"tool": "cancel_order", "arguments": {"order": "o20"}}
ASK_DAYS = {"tool": "track_parcel", "arguments": {"parcel": "s30"}, "field": "days"}


def task(
    *, changes: tuple[dict[str, Any], ...] = (), asks: dict[str, Any] | None = None, known: tuple[str, ...] = ("Ann",), turns: int = 2
) -> Task:
    data = {"shop": SHOP, "changes": changes, "asks": asks, "known": known, "turns": turns}
    return make_task({"id": "t", "question": "Please.", "data": data})
