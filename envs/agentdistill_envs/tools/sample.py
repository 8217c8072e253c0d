"""Tasks from the graph: a goal that can be reached, its shortest plan, a sentence for it.

A value that a goal takes is either told outright (``Ann``, ``order o42``) or described by the way to it on the tool graph, backwards:

    refund_payment <─ payment <─ get_order <─ order <─ last_order <─ user <─ find_user <─ "Ann"
    "Refund the payment of the last order of Ann."

What the sentence tells is known, and nothing else; the plan is hidden.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from agentdistill.env import ToolError
from agentdistill_envs.dice import Dice
from agentdistill_envs.tools.catalogue import REASONS, TOOLS, givers
from agentdistill_envs.tools.progress import Goal, Progress
from agentdistill_envs.tools.rows import ShopRecords, ToolsData
from agentdistill_envs.tools.shop import LETTERS, Shop

NAMES = ("Ann", "Ben", "Cem", "Dina", "Eve", "Finn", "Gil", "Hana", "Ivo", "Jane", "Kofi", "Lea", "Max", "Nora", "Omar", "Pia")
ITEMS = ("lamp", "book", "chair", "pen", "mug", "hat", "bag", "clock", "drum", "fan", "kite", "plant", "ring", "sofa", "tent", "vase")
CITIES = ("Oslo", "Rome", "Lima", "Cairo", "Paris", "Tokyo", "Delhi", "Quito")
_TOLD = {"name": 1.0, "item": 1.0, "order": 0.25, "city": 0.4}
"""Kinds of values that a question may tell outright, each with the probability that it does."""
_PHRASES = {
    "get_order.user": "the buyer of {}",
    "last_order.order": "the last order of {}",
    "get_order.product": "the product of {}",
    "get_order.payment": "the payment of {}",
    "get_order.parcel": "the parcel of {}",
    "get_user.card": "the card of {}",
    "get_payment.card": "the card of {}",
    "get_user.city": "the city of {}",
    "track_parcel.city": "the city of {}",
}
_CHANGES = {
    "create_order": "order {product} for {user}",
    "pay_order": "pay {order} with {card}",
    "ship_order": "ship {order} to {city}",
    "cancel_order": "cancel {order}",
    "refund_payment": "refund {payment}",
    "restock_product": "add {count} to the stock of {product}",
    "open_ticket": "report {order} as {reason}",
}
_QUESTIONS = {
    ("get_product", "price"): "What is the price of {}?",
    ("get_product", "stock"): "What is the stock of {}?",
    ("get_payment", "amount"): "What is the amount of {}?",
    ("track_parcel", "days"): "How many days will {} take?",
    ("track_parcel", "city"): "Where does {} go?",
    ("get_order", "status"): "What is the status of {}?",
}
_DEPTH = 5
_REUSE = 0.65
"""Probability that a further goal is about something the ones before were about."""


@dataclass(frozen=True)
class Term:
    """A value, how it is spoken of, what of that is told outright, and the looks (tool, argument) that lead to it."""

    kind: str
    value: str
    phrase: str
    told: frozenset[str]
    looks: frozenset[tuple[str, str]] = frozenset()


class Drawer:
    """Draws one shop and one goal in it."""

    def __init__(self, dice: Dice) -> None:
        self.dice = dice
        self.start = draw_shop(dice)
        self.shop = Shop(self.start)
        """As it is after the goal's changes so far."""
        self.terms: list[Term] = []
        """What the goal has spoken of."""
        self.changes: list[dict[str, Any]] = []
        self.asks: dict[str, Any] | None = None
        self.clauses: list[str] = []
        self.question = ""

    def term(self, kind: str, depth: int = _DEPTH) -> Term | None:
        """A value of a kind that the shop really has. ``None``: the draw led nowhere."""
        dice = self.dice
        if kind in _TOLD and (depth == 0 or dice.chance(_TOLD[kind])):
            return self._told(kind)
        ways = [(tool, field) for tool, field in givers(kind) if f"{tool}.{field}" in _PHRASES or tool in ("find_user", "find_product")]
        if not ways or depth == 0:
            return None
        tool, field = dice.pick(ways)
        argument, wanted = next(iter(TOOLS[tool].takes.items()))
        of = self._reused(wanted) or self.term(wanted, depth - 1)
        if of is None or tool in {look for look, _ in of.looks} or (field == "user" and tool == "get_order" and of.looks):
            return None
        try:
            value = Shop(self.start).call(tool, {argument: of.value}).get(field)
        except ToolError:
            return None
        if value is None:
            return None
        phrase = _PHRASES.get(f"{tool}.{field}", "{}" if tool == "find_user" else "the {}").format(of.phrase)
        term = Term(kind, value, phrase, of.told, of.looks | {(tool, of.value)})
        self.terms.append(term)
        return term

    def _told(self, kind: str) -> Term:
        dice, rows = self.dice, self.start
        if kind == "city":
            value = dice.pick(CITIES)
        elif kind == "order":
            value = dice.pick(list(rows["order"]))
        else:
            value = dice.pick(list(rows["user" if kind == "name" else "product"].values()))[kind]
        return Term(kind, value, f"order {value}" if kind == "order" else value, frozenset({value}))

    def _reused(self, kind: str) -> Term | None:
        same = [term for term in self.terms if term.kind == kind]
        return self.dice.pick(same) if same and self.dice.chance(_REUSE) else None

    def change(self) -> bool:
        """Add one change. ``False``: the draw led nowhere, or what it led to cannot be done."""
        dice = self.dice
        new = [term for term in self.terms if term.phrase == "it"]
        follow = new and dice.chance(0.75)
        tool = TOOLS[dice.pick(("pay_order", "ship_order", "open_ticket") if follow else tuple(_CHANGES))]
        arguments: dict[str, Any] = {}
        phrases: dict[str, str] = {}
        terms: list[Term] = []
        for name, kind in tool.takes.items():
            if kind in ("count", "reason"):
                arguments[name] = 1 + dice.below(9) if kind == "count" else dice.pick(REASONS)
                phrases[name] = str(arguments[name])
                continue
            term = new[-1] if follow and kind == "order" else self._reused(kind) or self.term(kind)
            if term is None:
                return False
            arguments[name], phrases[name] = term.value, term.phrase
            terms.append(term)
        about = next(iter(arguments.values()))
        if any(other["tool"] == tool.name and about in other["arguments"].values() for other in self.changes):
            return False
        try:
            answer = self.shop.call(tool.name, arguments)
        except ToolError:
            return False
        self.terms += terms
        self.changes.append({"tool": tool.name, "arguments": arguments})
        self.clauses.append(_CHANGES[tool.name].format(**phrases))
        if tool.name == "create_order":
            told = frozenset[str]().union(*(term.told for term in terms))
            self.terms.append(Term("order", answer["order"], "it", told, frozenset().union(*(term.looks for term in terms))))
        return True

    def ask(self) -> bool:
        """Add the question. ``False``: the draw led nowhere."""
        tool, field = self.dice.pick(tuple(_QUESTIONS))
        argument, kind = next(iter(TOOLS[tool].takes.items()))
        term = self._reused(kind) or self.term(kind)
        if term is None or term.phrase == "it":
            return False
        self.terms.append(term)
        self.asks = {"tool": tool, "arguments": {argument: term.value}, "field": field}
        self.question = _QUESTIONS[tool, field].format(term.phrase)
        return True

    def sentence(self) -> str:
        """The whole request."""
        if not self.clauses:
            return self.question
        *first, last = self.clauses
        text = f"{', '.join(first)} and {last}" if first else last
        return f"{text[0].upper()}{text[1:]}.{f' {self.question}' if self.question else ''}"

    def described(self) -> frozenset[tuple[str, str]]:
        """The looks that the sentence describes."""
        asked = () if self.asks is None else ((self.asks["tool"], *self.asks["arguments"].values()),)
        return frozenset(asked).union(*(term.looks for term in self.terms))

    def row(self, turns: int) -> dict[str, Any] | None:
        """Question and data of the task. ``None``: it takes another number of turns, asks about what it changes, or luck would shorten it,
        since a value is known by chance."""
        described = self.described()
        if len(described) + len(self.changes) + 1 != turns:
            return None
        ordering = {change["arguments"]["user"] for change in self.changes if change["tool"] == "create_order"}
        if any(tool == "last_order" and value in ordering for tool, value in described):
            return None
        if self.asks is not None:
            call = self.asks["tool"], self.asks["arguments"]
            if Shop(self.start).call(*call) != self.shop.call(*call):
                return None
        told = frozenset[str]().union(*(term.told for term in self.terms))
        data = {"shop": self.start, "changes": self.changes, "asks": self.asks, "known": sorted(told), "turns": turns}
        task = ToolsData.model_validate(data)
        plan = Progress(Goal(task)).plan()
        if plan is None or {(call.tool, call.arguments[0][1]) for call in plan if not TOOLS[call.tool].changes} != described:
            return None
        return {"question": self.sentence(), "data": task.model_dump(mode="json", exclude_defaults=True)}


def draw(dice: Dice, turns: int) -> dict[str, Any]:
    """Question and data of a task whose optimal play takes so many turns, the last word included; 2 to 8 are found soon."""
    while True:
        drawer = Drawer(dice)
        asks = dice.chance(0.3)
        wanted = 0 if asks and dice.chance(0.6) else 1 + dice.below(max(1, min(4, turns - 2)))
        if not all(drawer.change() for _ in range(wanted)) or (asks and not drawer.ask()) or not (asks or wanted):
            continue
        if (row := drawer.row(turns)) is not None:
            return row


def draw_shop(dice: Dice) -> dict[str, dict[str, dict[str, Any]]]:
    """A small shop: three users, three products, four orders in several states."""
    numbers = {letter: _distinct(dice, range(10, 100)) for letter in (*LETTERS.values(), "c")}
    names, items = _distinct(dice, NAMES), _distinct(dice, ITEMS)

    def new(letter: str) -> str:
        return f"{letter}{next(numbers[letter])}"

    records: dict[str, dict[str, dict[str, Any]]] = {sort: {} for sort in ("user", "product", "order", "payment", "parcel")}
    for _ in range(3):
        records["user"][new("u")] = {"name": next(names), "city": dice.pick(CITIES), "card": new("c")}
        records["product"][new("p")] = {"item": next(items), "price": 2 + dice.below(97), "stock": 1 + dice.below(30)}
    for _ in range(4):
        user, product = dice.pick(list(records["user"])), dice.pick(list(records["product"]))
        order = {"user": user, "product": product, "status": dice.pick(("open", "paid", "paid", "shipped"))}
        if order["status"] != "open":
            order["payment"] = new("y")
            card = records["user"][user]["card"]
            records["payment"][order["payment"]] = {"amount": records["product"][product]["price"], "card": card}
        if order["status"] == "shipped":
            order["parcel"] = new("s")
            records["parcel"][order["parcel"]] = {"city": dice.pick(CITIES), "days": 1 + dice.below(9)}
        records["order"][new("o")] = order
    return ShopRecords.model_validate(records).model_dump()


def _distinct(dice: Dice, options: Any) -> Iterator[Any]:
    """The options in random order."""
    left = list(options)
    while left:
        yield left.pop(dice.below(len(left)))
