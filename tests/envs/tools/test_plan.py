"""Plans are shortest, can be carried out, and start from any state."""

from __future__ import annotations

import inspect
from itertools import islice

import networkx as nx
import numpy as np
import pytest
from agentdistill_envs.tools import ToolsConfig, ToolsEnv
from agentdistill_envs.tools.catalogue import SIGNATURES, TOOLS, givers, tool_graph
from agentdistill_envs.tools.plan import Call, looks
from agentdistill_envs.tools.progress import Goal, Progress, goal_of
from tools_shop import ASK_DAYS, CANCEL, REFUND, task

from agentdistill.env import ToolError
from agentdistill.types import Task


def nano(split: str, count: int) -> list[Task]:
    return list(islice(ToolsEnv.load_tasks(ToolsConfig(), split), count))


def test_the_catalogue_is_what_the_tools_take() -> None:
    tools = ToolsEnv().tools
    assert [tool.name for tool in tools] == [signature.name for signature in SIGNATURES]
    assert len(tools) >= 10
    for tool in tools:
        assert set(tool.parameters["properties"]) == set(TOOLS[tool.name].takes)
        assert set(inspect.signature(getattr(ToolsEnv, tool.name)).parameters) - {"self"} == set(TOOLS[tool.name].takes)


def test_the_graph_has_the_tools_and_what_flows_between_them() -> None:
    graph = tool_graph()
    assert nx.has_path(graph, "find_user", "refund_payment")
    assert not nx.has_path(graph, "track_parcel", "find_product")
    assert set(givers("card")) == {("get_user", "card"), ("get_payment", "card")}
    assert givers("refund") == ()


def fewest_calls(goal: Goal, most: int) -> int:
    """By brute force: every call whose arguments are known, breadth first."""
    frontier = [Progress(goal)]
    seen = set()
    for depth in range(most + 1):
        further = []
        for progress in frontier:
            if not progress.left:
                return depth
            options = [call for call, _ in looks(progress.shop)] + [call for call, _ in progress.left]
            for call in options:
                if all(value in progress.known for value in call.needs):
                    after = Progress(goal)
                    after.shop, after.known, after.done = progress.shop.copy(), progress.known, progress.done
                    try:
                        after.call(call.tool, dict(call.arguments))
                    except ToolError:
                        continue
                    key = (after.known, after.done)
                    if key not in seen:
                        seen.add(key)
                        further.append(after)
        frontier = further
    raise AssertionError("no way found")


@pytest.mark.parametrize("task", [each for each in nano("test", 120) if each.data["turns"] <= 5][:24], ids=lambda each: each.id)
def test_no_shorter_way_exists(task: Task) -> None:
    plan = Progress(goal_of(task)).plan()
    assert plan is not None
    assert fewest_calls(goal_of(task), len(plan)) == len(plan) == task.data["turns"] - 1


def follow(progress: Progress) -> None:
    while plan := progress.plan():
        assert all(value in progress.known for value in plan[0].needs), plan
        progress.call(plan[0].tool, dict(plan[0].arguments))
        assert len(progress.plan()) == len(plan) - 1


@pytest.mark.parametrize("split", ["val", "test"])
def test_every_nano_plan_can_be_carried_out_and_leads_to_the_target(split: str) -> None:
    for each in nano(split, 512):
        progress = Progress(goal_of(each))
        assert len(progress.plan()) == each.data["turns"] - 1
        follow(progress)
        assert progress.as_wanted
        assert progress.damage is None


def test_plans_start_from_wherever_looking_around_has_led() -> None:
    rng = np.random.default_rng(0)
    for each in nano("test", 200):
        progress = Progress(goal_of(each))
        for _ in range(int(rng.integers(1, 5))):
            options = [call for call, _ in looks(progress.shop) if all(value in progress.known for value in call.needs)]
            if options:
                call = options[int(rng.integers(len(options)))]
                progress.call(call.tool, dict(call.arguments))
        assert len(progress.plan()) <= each.data["turns"] - 1
        follow(progress)
        assert progress.as_wanted


def test_changes_made_in_another_order_count() -> None:
    progress = Progress(goal_of(task(changes=(REFUND, CANCEL), turns=6)))
    progress.call("cancel_order", {"order": "o20"})
    assert [call.tool for call in progress.plan()] == ["find_user", "last_order", "get_order", "refund_payment"]
    follow(progress)
    assert progress.as_wanted


def test_a_change_that_nobody_asked_for_cannot_be_made_good() -> None:
    progress = Progress(goal_of(task(changes=(REFUND,), turns=5)))
    progress.call("restock_product", {"product": "p10", "count": 1})
    assert progress.plan() is None
    assert progress.damage == Call.of("restock_product", {"product": "p10", "count": 1})
    progress.call("refund_payment", {"payment": "y20"})
    assert not progress.as_wanted


def test_a_question_is_done_once_its_own_look_was_made() -> None:
    progress = Progress(goal_of(task(asks=ASK_DAYS, known=("o30",), turns=3)))
    assert [str(call) for call in progress.plan()] == ["get_order(order=o30)", "track_parcel(parcel=s30)"]
    follow(progress)
    assert progress.plan() == ()


def test_a_look_that_is_asked_for_serves_the_changes_too() -> None:
    ask = {"tool": "get_order", "arguments": {"order": "o20"}, "field": "status"}
    progress = Progress(goal_of(task(changes=(REFUND,), asks=ask, known=("o20",), turns=3)))
    assert [call.tool for call in progress.plan()] == ["get_order", "refund_payment"]
    follow(progress)


def test_what_cannot_be_found_has_no_plan() -> None:
    assert Progress(goal_of(task(changes=(REFUND,), known=("Ben",)))).plan() is None


@pytest.mark.parametrize(
    ("changes", "asks", "words"),
    [
        (({"tool": "cancel_order", "arguments": {"order": "o30"}},), None, "cannot be made: o30 is shipped"),
        ((), {"tool": "get_order", "arguments": {"order": "o99"}, "field": "status"}, "no order 'o99'"),
        ((), {"tool": "get_order", "arguments": {"order": "o10"}, "field": "payment"}, "there is no payment"),
        ((), None, "needs 'changes' or 'asks'"),
        (({"tool": "get_order", "arguments": {"order": "o10"}},), None, "get_order changes nothing"),
        (({"tool": "fly", "arguments": {}},), None, "no tool 'fly'"),
        (({"tool": "cancel_order", "arguments": {}},), None, "takes order, not nothing"),
        ((), {"tool": "cancel_order", "arguments": {"order": "o10"}, "field": "status"}, "changes the shop"),
        ((), {"tool": "get_order", "arguments": {"order": "o10"}, "field": "colour"}, "not 'colour'"),
    ],
)
def test_a_goal_that_cannot_be_is_refused(changes, asks, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        task(changes=changes, asks=asks)
