"""env=tools as a player meets it: what counts, what does not, what is told."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest
from agentdistill_envs.tools import BAD_HABITS, Flaws, ToolsConfig, ToolsEnv
from agentdistill_envs.tools.grade import tells
from tools_shop import ASK_DAYS, CANCEL, REFUND, task

from agentdistill.env import check_env
from agentdistill.types import Message, Task, ToolCall


def call(name: str, **arguments: Any) -> Message:
    return Message.assistant("", ToolCall(id="c", name=name, arguments=arguments))


def play(env: ToolsEnv, task: Task, *actions: Message | str) -> tuple[float, dict[str, Any]]:
    """Return and last info."""
    _, info = env.reset(seed=0, options={"task": task})
    total = 0.0
    for action in actions:
        _, reward, _, _, info = env.step(action)
        total += reward
    return total, info


def with_expert(env: ToolsEnv, task: Task, rng: np.random.Generator, *, flaws: Any = None, seed: int = 0) -> tuple[float, int]:
    """Return and turns."""
    expert = ToolsEnv.expert(env.config, flaws=flaws)
    env.reset(seed=seed, options={"task": task})
    total = 0.0
    while not env.over:
        _, reward, _, _, _ = env.step(expert.act(task, tuple(env.messages), rng))
        total += reward
    return total, env.turn


DO_REFUND = call("refund_payment", payment="y20")


def test_it_keeps_the_contract() -> None:
    check_env(ToolsEnv)
    check_env(ToolsEnv, config=ToolsConfig(outage=0.3, tries=3, max_turns=12))


def test_the_wanted_state_counts_however_it_came_about() -> None:
    env = ToolsEnv()
    both = task(changes=(REFUND, CANCEL), turns=6)
    assert play(env, both, DO_REFUND, call("cancel_order", order="o20"), "Done.")[0] == 1
    assert play(env, both, call("cancel_order", order="o20"), call("get_user", user="u20"), DO_REFUND, "ok")[0] == 1
    several = Message.assistant("", *call("cancel_order", order="o20").tool_calls, *DO_REFUND.tool_calls)
    assert play(env, both, several, "")[0] == 1


@pytest.mark.parametrize(
    "actions",
    [
        ("Done.",),
        (call("cancel_order", order="o20"), "Done."),
        (DO_REFUND, call("open_ticket", order="o20", reason="late"), "Done."),
        (call("restock_product", product="p10", count=1), DO_REFUND, "Done."),
    ],
    ids=["nothing", "another", "more after", "more before"],
)
def test_any_other_state_does_not(actions: tuple[Message | str, ...]) -> None:
    total, info = play(ToolsEnv(), task(changes=(REFUND,), turns=5), *actions)
    assert total == 0
    assert info["success"] is False


def test_a_mistake_that_changed_nothing_can_be_mended() -> None:
    env = ToolsEnv()
    _, reward, terminated, _, info = play_one(env, call("refund_payment", payment="o20"))
    assert (reward, terminated) == (0, False)
    assert info["tool_results"][0].error == "tool_error"
    assert info["views"].feedback == "o20 is the id of a order, not of a payment"
    assert info["views"].value == 1
    _, _, _, _, info = env.step(DO_REFUND)
    assert info["views"].feedback is None
    assert env.step("Done.")[1] == 1


def play_one(env: ToolsEnv, action: Message) -> Any:
    env.reset(options={"task": task(changes=(REFUND,), turns=5)})
    return env.step(action)


def test_damage_ends_all_hope_at_once_and_is_named() -> None:
    env = ToolsEnv()
    _, _, _, _, info = play_one(env, call("cancel_order", order="o10"))
    assert info["views"].value == 0
    assert info["views"].feedback == "cancel_order(order=o10) changed what nobody asked to change."
    assert info["views"].hint is None
    assert info["views"].expert_action.content == "Done."


@pytest.mark.parametrize(
    ("text", "reward"), [("4", 1), ("It will take 4 days.", 1), ("**4**", 1), ("3", 0), ("3 or 4", 0), ("soon", 0), ("", 0)]
)
def test_a_question_is_answered_or_not(text: str, reward: float) -> None:
    asking = task(asks=ASK_DAYS, known=("o30",), turns=4)
    assert play(ToolsEnv(), asking, text)[0] == reward
    assert play(ToolsEnv(), asking, call("cancel_order", order="o10"), text)[0] == 0


@pytest.mark.parametrize(
    ("text", "answer", "rivals", "told"),
    [
        ("To Rome.", "Rome", {"Oslo", "Rome"}, True),
        ("ROME", "Rome", {"Oslo"}, True),
        ("Rome or Oslo", "Rome", {"Oslo"}, False),
        ("Not to Lima, to Rome", "Rome", {"Oslo"}, True),
        ("It is paid", "paid", {"open", "shipped"}, True),
        ("unpaid", "paid", {"open"}, False),
        ("7.5", "7", set(), False),
        ("17", "7", set(), False),
        ("$7", "7", {"9"}, True),
    ],
)
def test_an_answer_names_the_value_and_no_rival(text: str, answer: str, rivals: set[str], told: bool) -> None:
    assert tells(text, answer, rivals) is told


def test_further_tries_are_told_and_then_used_up() -> None:
    env = ToolsEnv(ToolsConfig(tries=2))
    env.reset(options={"task": task(changes=(REFUND,), turns=5)})
    observation, _, over, _, info = env.step("Done.")
    assert (observation[0].content, over, info["success"]) == ("That is not what I asked for. Go on.", False, None)
    env.step(DO_REFUND)
    assert env.step("Done.")[1] == 1
    assert play(env, task(changes=(REFUND,), turns=5), "Done.", "Done.")[1]["success"] is False


def test_the_prompt_hides_the_plan_and_the_views_tell_it() -> None:
    hidden = ToolsEnv.load_tasks(ToolsConfig(horizon=(6, 8)), "test")[0]
    env = ToolsEnv()
    observation, info = env.reset(options={"task": hidden})
    for id in (value for value in info["task"].data["shop"]["order"] if value not in hidden.data["known"]):
        assert id not in observation[-1].content
    assert str(hidden.answer) == info["views"].answer
    assert info["views"].hint.startswith("Call ")


def test_the_expert_needs_as_many_turns_as_the_task_says_and_never_fails() -> None:
    env, rng = ToolsEnv(), np.random.default_rng(0)
    before = rng.bit_generator.state
    for each in ToolsEnv.load_tasks(env.config, "test").take(200):
        assert with_expert(env, each, rng) == (1.0, each.data["turns"])
    assert rng.bit_generator.state == before, "without flaws it draws nothing"


def test_the_value_is_what_the_expert_gets_under_outages() -> None:
    env = ToolsEnv(ToolsConfig(outage=0.4, max_turns=6))
    several = ToolsEnv.load_tasks(ToolsConfig(horizon=(4, 5)), "test").take(4)
    rng = np.random.default_rng(0)
    for each in several:
        _, info = env.reset(options={"task": each})
        returns = [with_expert(env, each, rng, seed=seed)[0] for seed in range(120)]
        assert abs(np.mean(returns) - info["views"].value) < 0.16
        assert 0.05 < info["views"].value < 0.95


def test_an_outage_is_told_and_changes_nothing() -> None:
    env = ToolsEnv(ToolsConfig(outage=0.99))
    env.reset(seed=0, options={"task": task(changes=(REFUND,), turns=5)})
    observation, _, _, _, info = env.step(DO_REFUND)
    assert observation[0].content == "Error: refund_payment is busy; try again"
    assert not env.progress.as_wanted
    assert info["views"].feedback == "refund_payment is busy; try again"


def test_turns_that_do_not_suffice_are_worth_nothing() -> None:
    _, info = ToolsEnv(ToolsConfig(max_turns=4)).reset(options={"task": task(changes=(REFUND,), turns=5)})
    assert info["views"].value == 0
    _, info = ToolsEnv(ToolsConfig(max_turns=5)).reset(options={"task": task(changes=(REFUND,), turns=5)})
    assert info["views"].value == 1


def test_equal_states_have_equal_anchors_and_others_have_not() -> None:
    env = ToolsEnv()
    both = task(changes=(REFUND, CANCEL), turns=6)
    first = play(env, both, DO_REFUND, call("cancel_order", order="o20"))[1]["anchor"]
    assert play(env, both, call("cancel_order", order="o20"), DO_REFUND)[1]["anchor"] == first
    others = {
        play(env, both, DO_REFUND)[1]["anchor"],
        play(env, both, DO_REFUND, call("cancel_order", order="o20"), call("get_user", user="u20"))[1]["anchor"],
        play(env, both, DO_REFUND, call("cancel_order", order="o10"))[1]["anchor"],
    }
    assert len(others | {first}) == 4


def test_bad_habits_fail_mostly_and_differ_from_the_expert_by_name() -> None:
    env, rng = ToolsEnv(), np.random.default_rng(0)
    tasks = ToolsEnv.load_tasks(ToolsConfig(horizon=(3, 8)), "test").take(60)
    rates = {name: np.mean([with_expert(env, each, rng, flaws=flaws)[0] for each in tasks]) for name, flaws in HABITS.items()}
    assert rates["none"] == 1
    assert rates["all"] < 0.25
    assert all(rates[name] < 0.97 for name in HABITS if name != "none")


HABITS: dict[str, Any] = {
    "none": None,
    "all": BAD_HABITS,
    "stop_early": {"stop_early": 0.5},
    "skip_look": Flaws(skip_look=0.9),
    "wrong_change": {"wrong_change": 0.5},
    "miscopy": {"miscopy": 0.9},
}


def test_an_unheard_of_habit_is_refused() -> None:
    with pytest.raises(ValueError, match="laziness"):
        ToolsEnv.expert(ToolsConfig(), flaws={"laziness": 1})


def test_the_drawing_is_the_plan() -> None:
    graph = ToolsEnv.task_graph(ToolsConfig(), task(changes=(REFUND,), asks=ASK_DAYS, known=("Ann", "o30"), turns=7))
    assert nx.is_directed_acyclic_graph(graph)
    steps = sorted((facts["step"], node) for node, facts in graph.nodes(data=True) if "step" in facts)
    assert [node for _, node in steps] == [
        "find_user(name=Ann)",
        "last_order(user=u10)",
        "get_order(order=o20)",
        "refund_payment(payment=y20)",
        "get_order(order=o30)",
        "track_parcel(parcel=s30)",
    ]
    assert nx.has_path(graph, "Ann", "refund_payment(payment=y20)")
    assert nx.has_path(graph, "o30", "= 4")
    assert not nx.has_path(graph, "Ann", "= 4")
    assert {facts["kind"] for _, facts in graph.nodes(data=True)} == {"given", "look", "value", "change", "answer"}


@pytest.mark.parametrize("horizon", [(1, 3), (5, 4)])
def test_a_horizon_out_of_order_is_refused(horizon: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"fewest <= most"):
        ToolsConfig(horizon=horizon)
