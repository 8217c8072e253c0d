"""ToolsEnv: a shop behind fifteen tools, a request, and a look at what became of the shop.

    user       Refund the payment of the last order of Ann.
    assistant  -> find_user(name="Ann")                          tool  {"user": "u17"}
    assistant  -> last_order(user="u17")                         tool  {"order": "o42"}
    assistant  -> get_order(order="o42")                         tool  {"user": "u17", "product": "p08", "status": "paid", "payment": "y31"}
    assistant  -> refund_payment(payment="y31")                  tool  {"refund": "r88"}
    assistant  Done.                                             reward 1: the payment is refunded, and nothing else was touched

A message without tool calls is the last word. It succeeds if every change that was asked for was made, nothing else was changed, and what
was asked was told (after tau-bench, arXiv 2406.12045).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any, Self

import networkx as nx
from pydantic import Field, model_validator

from agentdistill.env import EnvConfig, Observation, Reply, ToolEnv, ToolError, tool
from agentdistill.taskset import TaskSet
from agentdistill.types import Message, Task, ToolResult, Views
from agentdistill_envs.tools.catalogue import Reason
from agentdistill_envs.tools.drawing import task_graph
from agentdistill_envs.tools.expert import BAD_HABITS, ToolsExpert, best_move
from agentdistill_envs.tools.grade import tells
from agentdistill_envs.tools.progress import Progress, goal_of
from agentdistill_envs.tools.tasks import SHORTEST, load


class ToolsConfig(EnvConfig):
    """What env=tools can be told."""

    max_turns: int = Field(default=10, ge=1)
    tries: int = Field(default=1, ge=1)
    """Last words an episode may give; before the last of them it is told that the request is not fulfilled."""
    horizon: tuple[int, int] | None = None
    """Only tasks whose optimal play takes so many turns, fewest and most, the last word included: within [2, 8]. ``None``: all."""
    count: int = Field(default=1000, ge=1)
    """Tasks a split, where they are sampled (``tasks=sampled``)."""
    outage: float = Field(default=0.0, ge=0, lt=1)
    """Probability that a call finds its tool busy, and changes nothing."""

    @model_validator(mode="after")
    def _horizon_in_order(self) -> Self:
        if self.horizon is not None and not SHORTEST <= self.horizon[0] <= self.horizon[1]:
            raise ValueError(
                f"horizon={list(self.horizon)} must be [fewest, most] turns with {SHORTEST} <= fewest <= most, for instance [3, 6]"
            )
        return self


class ToolsEnv(ToolEnv):
    """A shop: users, products, orders, payments, parcels, refunds, tickets."""

    Config = ToolsConfig
    name = "tools"
    bad_habits = BAD_HABITS.model_dump(exclude_defaults=True)
    config: ToolsConfig

    def begin(self, task: Task) -> Observation:
        self._key = task.hash
        self.progress = Progress(goal_of(task))
        self.wrong = 0
        """Last words that did not count."""
        self._error: str | None = None
        return task.prompt

    @classmethod
    def load_tasks(cls, config: ToolsConfig, split: str) -> TaskSet:
        return load(config.tasks, split, config.horizon, config.count)

    @classmethod
    def expert(cls, config: ToolsConfig, *, flaws: Any = None) -> ToolsExpert:
        return ToolsExpert(flaws)

    @classmethod
    def task_graph(cls, config: ToolsConfig, task: Task) -> nx.DiGraph[str]:
        return task_graph(goal_of(task))

    # ---- tools ----------------------------------------------------------------------------------------------------

    @tool
    def find_user(self, name: str) -> dict[str, Any]:
        """Id of a user."""
        return self._do("find_user", name=name)

    @tool
    def get_user(self, user: str) -> dict[str, Any]:
        """Name, city and card of a user."""
        return self._do("get_user", user=user)

    @tool
    def last_order(self, user: str) -> dict[str, Any]:
        """Newest order of a user."""
        return self._do("last_order", user=user)

    @tool
    def get_order(self, order: str) -> dict[str, Any]:
        """Facts of an order."""
        return self._do("get_order", order=order)

    @tool
    def find_product(self, item: str) -> dict[str, Any]:
        """Id of a product."""
        return self._do("find_product", item=item)

    @tool
    def get_product(self, product: str) -> dict[str, Any]:
        """Price and stock of a product."""
        return self._do("get_product", product=product)

    @tool
    def get_payment(self, payment: str) -> dict[str, Any]:
        """Amount and card of a payment."""
        return self._do("get_payment", payment=payment)

    @tool
    def track_parcel(self, parcel: str) -> dict[str, Any]:
        """City and days of a parcel."""
        return self._do("track_parcel", parcel=parcel)

    @tool
    def create_order(self, user: str, product: str) -> dict[str, Any]:
        """Order one product for a user."""
        return self._do("create_order", user=user, product=product)

    @tool
    def pay_order(self, order: str, card: str) -> dict[str, Any]:
        """Pay an open order."""
        return self._do("pay_order", order=order, card=card)

    @tool
    def ship_order(self, order: str, city: str) -> dict[str, Any]:
        """Ship a paid order."""
        return self._do("ship_order", order=order, city=city)

    @tool
    def cancel_order(self, order: str) -> dict[str, Any]:
        """Cancel an order that is not shipped."""
        return self._do("cancel_order", order=order)

    @tool
    def refund_payment(self, payment: str) -> dict[str, Any]:
        """Give the money back."""
        return self._do("refund_payment", payment=payment)

    @tool
    def restock_product(self, product: str, count: int) -> dict[str, Any]:
        """Add to the stock."""
        return self._do("restock_product", product=product, count=count)

    @tool
    def open_ticket(self, order: str, reason: Reason) -> dict[str, Any]:
        """Report an order."""
        return self._do("open_ticket", order=order, reason=reason)

    def _do(self, tool_name: str, /, **arguments: Any) -> dict[str, Any]:
        self._error = None
        try:
            if self.config.outage and self.np_random.random() < self.config.outage:
                raise ToolError(f"{tool_name} is busy; try again")
            return self.progress.call(tool_name, arguments)
        except ToolError as error:
            self._error = str(error)
            raise

    def after_calls(self, results: Sequence[ToolResult]) -> Reply:
        self.progress.calls += len(results)
        return Reply()

    # ---- verdicts -------------------------------------------------------------------------------------------------

    def answer(self, message: Message) -> Reply:
        if self.right(message.content):
            return Reply(parts={"task": 1.0}, done=True, success=True)
        self.wrong += 1
        if self.wrong < self.config.tries and self.turns_left > 0:
            return Reply(messages=(Message.user("That is not what I asked for. Go on."),), parts={"task": 0.0})
        return Reply(parts={"task": 0.0}, done=True, success=False)

    def right(self, answer: str) -> bool:
        """Whether the shop is as it should be, and the last word tells what was asked."""
        goal = self.progress.goal
        return self.progress.as_wanted and (goal.answer is None or tells(answer, goal.answer, goal.rivals))

    # ---- what the environment knows of the present state ------------------------------------------------------------

    def anchor(self) -> str:
        """Equal where the shop is equal and the same was seen, for the same task with as many tries left."""
        state = [self._key, self.progress.shop.records, sorted(self.progress.known), len(self.progress.done), self.wrong]
        return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()[:16]

    def views(self) -> Views:
        """What the task is about, call by call; a hint; the expert's move; the exact value; and what went wrong last.

        The value is the probability that the expert succeeds, which needs a turn for each call that is left and one for the last word.
        """
        plan = self.progress.plan()
        return Views(
            answer=str(self.task.answer),
            feedback=self._what_was_wrong(),
            hint=None if plan is None else f"Call {plan[0]}." if plan else f"Say {self.progress.goal.answer or 'that it is done'}.",
            expert_action=best_move(self.progress),
            value=0.0 if plan is None or self.over else self._chance(len(plan)),
        )

    def _what_was_wrong(self) -> str | None:
        if self._error is not None:
            return self._error
        damage = self.progress.damage
        return None if damage is None else f"{damage} changed what nobody asked to change."

    def _chance(self, calls: int) -> float:
        """That ``calls`` calls get through in the turns that are left before the last word."""
        spare, works = self.turns_left - 1, 1 - self.config.outage
        return math.fsum(math.comb(spare, k) * works**k * (1 - works) ** (spare - k) for k in range(calls, spare + 1))
