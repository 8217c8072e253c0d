"""From a state of the shop and of what is known to the shortest way to the goal.

A state is what the agent has seen, what it has changed, and what is left to do. Every change that is left must be made, so a plan is as
long as those and the fewest looks that make their arguments known. Looks are searched breadth first over sets of them, on the part of the
graph that leads to what is missing, so the plan is exact: no shorter one exists.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from agentdistill_envs.tools.catalogue import SIGNATURES, TOOLS
from agentdistill_envs.tools.shop import LETTERS, Shop

_KINDS = {kind for signature in SIGNATURES for kind in signature.takes.values()}
_TAKEN = {tool.name: tuple(field for field, kind in tool.gives.items() if kind in _KINDS) for tool in SIGNATURES}
"""By tool: fields of its answer that other tools can take."""


@dataclass(frozen=True, order=True)
class Call:
    """A call with its arguments, as a value."""

    tool: str
    arguments: tuple[tuple[str, str | int], ...]

    @classmethod
    def of(cls, tool: str, arguments: Mapping[str, str | int]) -> Call:
        """The same call whatever the order of its arguments."""
        return cls(tool, tuple((name, arguments[name]) for name in TOOLS[tool].takes))

    @property
    def needs(self) -> tuple[str, ...]:
        """Values that have to be known before; numbers and reasons are told by the task."""
        return tuple(str(value) for name, value in self.arguments if TOOLS[self.tool].takes[name] not in ("count", "reason"))

    def __str__(self) -> str:
        return f"{self.tool}({', '.join(f'{name}={value}' for name, value in self.arguments)})"


Telling = tuple[Call, tuple[str, ...]]
"""A call with the values that it makes known."""


def looks(shop: Shop) -> tuple[Telling, ...]:
    """Every look that the shop can answer now."""
    return tuple(_looks(shop))


def _looks(shop: Shop) -> Iterator[Telling]:
    ordering = {order["user"] for order in shop.records["order"].values()}
    for tool in SIGNATURES:
        if tool.changes:
            continue
        argument, kind = next(iter(tool.takes.items()))
        if kind in LETTERS:
            values = [id for id in shop.records[kind] if tool.name != "last_order" or id in ordering]
        else:
            values = [row[kind] for row in shop.records["user" if kind == "name" else "product"].values()]
        for value in values:
            answer = shop.call(tool.name, {argument: value})
            yield Call(tool.name, ((argument, value),)), learned(tool.name, answer)


def learned(tool: str, answer: Mapping[str, object]) -> tuple[str, ...]:
    """Values of an answer that other tools can take."""
    return tuple(str(answer[field]) for field in _TAKEN[tool] if answer.get(field) is not None)


@lru_cache(maxsize=65536)
def shortest(wanted: tuple[Telling, ...], available: tuple[Telling, ...], known: frozenset[str]) -> tuple[Call, ...] | None:
    """The calls that are left, in the order of work.

    Args:
        wanted: calls that have to be made, in an order in which they can be, each with the values that it will make known.
        available: see :func:`looks`.
        known: values that were seen.

    Returns:
        One shortest plan, the same each time; ``None`` where there is none.
    """
    missing = frozenset(value for call, _ in wanted for value in call.needs) - known - {value for _, gives in wanted for value in gives}
    useful = _useful(missing, available, known)
    tried: set[frozenset[Call]] = set()
    frontier: list[frozenset[Call]] = [frozenset()]
    while frontier:
        further: list[frozenset[Call]] = []
        for chosen in frontier:
            seen = known.union(*(gives for call, gives in useful if call in chosen))
            seen, undone = _with_changes(wanted, seen)
            if not undone:
                return tuple(_in_order(wanted, [each for each in useful if each[0] in chosen], known))
            for call, _ in useful:
                if call not in chosen and all(value in seen for value in call.needs):
                    larger = chosen | {call}
                    if larger not in tried:
                        tried.add(larger)
                        further.append(larger)
        frontier = further
    return None


def _with_changes(wanted: Iterable[Telling], seen: frozenset[str]) -> tuple[frozenset[str], list[Call]]:
    """What is known once everything that can be done is done, and what cannot."""
    left = list(wanted)
    while True:
        ready = [each for each in left if all(value in seen for value in each[0].needs)]
        if not ready:
            return seen, [call for call, _ in left]
        left = [each for each in left if each not in ready]
        seen = seen.union(*(gives for _, gives in ready))


def _useful(missing: frozenset[str], available: tuple[Telling, ...], known: frozenset[str]) -> tuple[Telling, ...]:
    """The looks that lead to what is missing, directly or through others."""
    sought = set(missing)
    chosen: dict[Call, tuple[str, ...]] = {}
    grew = True
    while grew:
        grew = False
        for call, gives in available:
            if call not in chosen and sought.intersection(gives):
                chosen[call] = gives
                sought.update(value for value in call.needs if value not in known)
                grew = True
    return tuple(each for each in available if each[0] in chosen)


def _in_order(wanted: Sequence[Telling], chosen: Iterable[Telling], known: frozenset[str]) -> Iterator[Call]:
    """First what the first wanted call needs, then that call, then what the next needs."""
    seen = set(known)
    left = dict((*chosen, *(each for each in wanted if not TOOLS[each[0].tool].changes)))

    def fetch(value: str) -> Iterator[Call]:
        for call, gives in list(left.items()):
            if value not in seen and value in gives and call in left:
                yield from make(call, gives)

    def make(call: Call, gives: tuple[str, ...]) -> Iterator[Call]:
        left.pop(call, None)
        for needed in call.needs:
            yield from fetch(needed)
        if all(needed in seen for needed in call.needs):
            seen.update(gives)
            yield call
        else:
            left[call] = gives

    for call, gives in wanted:
        if TOOLS[call.tool].changes or call in left:
            yield from make(call, gives)
