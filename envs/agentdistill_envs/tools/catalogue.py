"""The shop's tools as a graph: which tool's output feeds which tool's input.

    name ─> find_user ─> user ─> last_order ─> order ─> get_order ─> payment ─> refund_payment
                           └──> get_user ─> city ──────> ship_order
    kinds of values and tools are the nodes; what a tool takes points to it, and it points to what it gives

Everything else is derived from this table: tasks are sampled on the graph, plans are found on it, and a test holds the environment's tools
to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import networkx as nx

Reason = Literal["late", "broken", "wrong"]
REASONS: tuple[Reason, ...] = ("late", "broken", "wrong")


@dataclass(frozen=True)
class Signature:
    """What a tool takes and gives: argument, or field of its result, to the kind of value."""

    name: str
    takes: Mapping[str, str]
    gives: Mapping[str, str] = field(default_factory=dict)
    changes: bool = False
    """Whether it changes the shop."""


SIGNATURES: tuple[Signature, ...] = (
    Signature("find_user", {"name": "name"}, {"user": "user"}),
    Signature("get_user", {"user": "user"}, {"name": "name", "city": "city", "card": "card"}),
    Signature("last_order", {"user": "user"}, {"order": "order"}),
    Signature(
        "get_order",
        {"order": "order"},
        {kind: kind for kind in ("user", "product", "status", "payment", "parcel")},
    ),
    Signature("find_product", {"item": "item"}, {"product": "product"}),
    Signature("get_product", {"product": "product"}, {"item": "item", "price": "price", "stock": "stock"}),
    Signature("get_payment", {"payment": "payment"}, {"amount": "amount", "card": "card"}),
    Signature("track_parcel", {"parcel": "parcel"}, {"city": "city", "days": "days"}),
    Signature("create_order", {"user": "user", "product": "product"}, {"order": "order"}, changes=True),
    Signature("pay_order", {"order": "order", "card": "card"}, {"payment": "payment"}, changes=True),
    Signature("ship_order", {"order": "order", "city": "city"}, {"parcel": "parcel"}, changes=True),
    Signature("cancel_order", {"order": "order"}, changes=True),
    Signature("refund_payment", {"payment": "payment"}, {"refund": "refund"}, changes=True),
    Signature("restock_product", {"product": "product", "count": "count"}, changes=True),
    Signature("open_ticket", {"order": "order", "reason": "reason"}, {"ticket": "ticket"}, changes=True),
)
"""The first eight only look, the others change the shop."""

TOOLS: Mapping[str, Signature] = {signature.name: signature for signature in SIGNATURES}


@lru_cache(maxsize=1)
def tool_graph() -> nx.DiGraph[str]:
    """The graph of kinds and tools. Node attribute ``part`` is ``kind``, ``look`` or ``change``."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    for tool in SIGNATURES:
        graph.add_node(tool.name, part="change" if tool.changes else "look")
        for kind in (*tool.takes.values(), *tool.gives.values()):
            graph.add_node(kind, part="kind")
        graph.add_edges_from((kind, tool.name) for kind in tool.takes.values())
        graph.add_edges_from((tool.name, kind) for kind in tool.gives.values())
    return graph


@lru_cache(maxsize=64)
def givers(kind: str) -> tuple[tuple[str, str], ...]:
    """(tool, field) of every tool that only looks and gives a value of ``kind``."""
    looks = [node for node in tool_graph().predecessors(kind) if tool_graph().nodes[node]["part"] == "look"]
    return tuple((name, given) for name in looks for given, its in TOOLS[name].gives.items() if its == kind)
