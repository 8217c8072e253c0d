"""The shop does what is asked of it, or says why not and stays as it is."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
from agentdistill_envs.tools.shop import Shop

from agentdistill.env import ToolError


@pytest.mark.parametrize(
    ("tool", "arguments", "answer"),
    [
        ("find_user", {"name": "Ben"}, {"user": "u20"}),
        ("get_user", {"user": "u10"}, {"name": "Ann", "city": "Oslo", "card": "c10"}),
        ("last_order", {"user": "u10"}, {"order": "o20"}),
        ("get_order", {"order": "o10"}, {"user": "u10", "product": "p10", "status": "open"}),
        ("get_order", {"order": "o30"}, {"user": "u20", "product": "p20", "status": "shipped", "payment": "y30", "parcel": "s30"}),
        ("find_product", {"item": "pen"}, {"product": "p20"}),
        ("get_product", {"product": "p20"}, {"item": "pen", "price": 2, "stock": 0}),
        ("get_payment", {"payment": "y20"}, {"amount": 7, "card": "c10"}),
        ("track_parcel", {"parcel": "s30"}, {"city": "Rome", "days": 4}),
    ],
)
def test_a_look_tells_and_changes_nothing(records, tool: str, arguments: dict[str, Any], answer: dict[str, Any]) -> None:
    shop = Shop(records)
    before = copy.deepcopy(shop.records)
    assert shop.call(tool, arguments) == answer
    assert shop.records == before


def test_an_order_goes_from_open_to_shipped_and_each_step_leaves_its_record(records) -> None:
    shop = Shop(records)
    order = shop.create_order("u20", "p10")["order"]
    assert shop.records["product"]["p10"]["stock"] == 2
    assert shop.last_order("u20") == {"order": order}
    payment = shop.pay_order(order, "c20")["payment"]
    assert shop.get_payment(payment) == {"amount": 7, "card": "c20"}
    parcel = shop.ship_order(order, "Lima")["parcel"]
    assert shop.track_parcel(parcel)["city"] == "Lima"
    assert shop.get_order(order) == {"user": "u20", "product": "p10", "status": "shipped", "payment": payment, "parcel": parcel}
    refund = shop.refund_payment(payment)["refund"]
    assert shop.records["refund"][refund] == {"amount": 7}
    assert shop.restock_product("p20", 5) == {"stock": 5}
    ticket = shop.open_ticket(order, "late")["ticket"]
    assert shop.records["ticket"][ticket] == {"order": order, "reason": "late"}


@pytest.mark.parametrize(
    ("tool", "arguments", "words"),
    [
        ("find_user", {"name": "Zoe"}, "no user has the name 'Zoe'; there are: Ann, Ben"),
        ("find_product", {"item": "sofa"}, "there are: lamp, pen"),
        ("get_user", {"user": "o10"}, "o10 is the id of a order, not of a user"),
        ("get_user", {"user": "c10"}, "c10 is the id of a card"),
        ("get_user", {"user": "u99"}, "no user 'u99'"),
        ("get_user", {"user": ""}, "no user ''"),
        ("create_order", {"user": "u10", "product": "p20"}, "out of stock; restock it first"),
        ("pay_order", {"order": "o20", "card": "c10"}, "o20 is paid; it must be open"),
        ("pay_order", {"order": "o10", "card": "c20"}, "not the card of u10"),
        ("ship_order", {"order": "o10", "city": "Oslo"}, "o10 is open; it must be paid"),
        ("cancel_order", {"order": "o30"}, "o30 is shipped; it must be open or paid"),
        ("restock_product", {"product": "p10", "count": 0}, "1 to 99"),
    ],
)
def test_what_cannot_be_is_refused_in_words_and_changes_nothing(records, tool: str, arguments: dict[str, Any], words: str) -> None:
    shop = Shop(records)
    before = copy.deepcopy(shop.records)
    with pytest.raises(ToolError, match=words):
        shop.call(tool, arguments)
    assert shop.records == before


def test_nothing_can_be_done_twice(records) -> None:
    shop = Shop(records)
    for tool, arguments in (
        ("refund_payment", {"payment": "y20"}),
        ("cancel_order", {"order": "o20"}),
        ("open_ticket", {"order": "o20", "reason": "late"}),
    ):
        shop.call(tool, arguments)
        with pytest.raises(ToolError):
            shop.call(tool, arguments)
    shop.call("open_ticket", {"order": "o20", "reason": "broken"})


def test_someone_without_orders_has_no_last_one(records) -> None:
    records["order"].clear()
    with pytest.raises(ToolError, match="u10 has no orders"):
        Shop(records).last_order("u10")


def test_the_order_of_changes_leaves_no_trace(records) -> None:
    changes = [
        ("refund_payment", {"payment": "y20"}),
        ("cancel_order", {"order": "o10"}),
        ("open_ticket", {"order": "o10", "reason": "late"}),
        ("open_ticket", {"order": "o20", "reason": "late"}),
        ("create_order", {"user": "u20", "product": "p10"}),
    ]
    ends = []
    for order in itertools.permutations(changes):
        shop = Shop(records)
        for tool, arguments in order:
            shop.call(tool, arguments)
        ends.append(shop.records)
    assert all(end == ends[0] for end in ends)


def test_a_copy_goes_its_own_way(records) -> None:
    shop = Shop(records)
    other = shop.copy()
    other.cancel_order("o10")
    assert shop.records["order"]["o10"]["status"] == "open"
    assert records["order"]["o10"]["status"] == "open"


def test_ids_are_new_however_many_there_are(records) -> None:
    shop = Shop(records)
    shop.records["product"]["p10"]["stock"] = 500
    assert len({shop.create_order("u10", "p10")["order"] for _ in range(300)}) == 300
