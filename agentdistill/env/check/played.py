"""What an environment does when it is played: whole episodes, the same again, side by side, within limits, against hostile models."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env as check_gymnasium

from agentdistill.clock import SYSTEM_CLOCK, Clock, ManualClock
from agentdistill.env.base import SPLITS, AgentEnv, EnvConfig, Expert
from agentdistill.env.check.actions import call, first_action, hostile_actions, say
from agentdistill.env.check.promises import FOREIGN, Promises
from agentdistill.types import Message, Task

LONGEST = 64
"""Turns of an episode that is played for its end alone."""
SEEDS = 64
"""Plays of one task by the expert where chance has a part in its return."""

# ---- whole episodes ---------------------------------------------------------------------------------------------------


def one_episode(check: Promises) -> None:
    """Begins with the task it was given, and records what was said."""
    env = check.make()
    task = check.tasks("train")[0]
    observation, info = check.reset(env, task)
    if not observation:
        check.broken("reset returns no messages", "return the task's prompt from begin()")
    if info["task"] != task:
        check.broken("reset plays another task than the one in options", "play options['task']; leave reset to AgentEnv")
    action = first_action(check.tools(env))
    before = len(env.messages)
    check.step(env, action)
    if len(env.messages) <= before or env.messages[before] != action:
        check.broken("the action is not recorded in 'messages'", "leave step to AgentEnv and override respond()")


def to_the_end(check: Promises) -> None:
    """Episodes of nothing but answers, and of nothing but tool calls: what breaks late breaks here."""
    env = check.make()
    for split in SPLITS:
        task = check.tasks(split)[0]
        _play_on(check, env, task, say)
        if tools := check.tools(env):
            _play_on(check, env, task, lambda turn, tools=tools: call(tools[turn % len(tools)]))  # type: ignore[misc]


def _play_on(check: Promises, env: AgentEnv, task: Task, act: Callable[[int], Message]) -> None:
    check.reset(env, task)
    turns = min(env.config.max_turns, LONGEST)
    for turn in range(turns):
        if not env.over:
            check.step(env, act(turn))
    if env.over:
        _after_the_end(check, env, act(turns))
    elif turns == env.config.max_turns:
        check.broken(f"an episode goes on after max_turns={turns}", "leave step to AgentEnv: it counts turns and reads the clock")


def _after_the_end(check: Promises, env: AgentEnv, action: Message) -> None:
    remedy = "raise gymnasium.error.ResetNeeded; leave step to AgentEnv"
    try:
        env.step(action)
    except ResetNeeded:
        return
    except FOREIGN as error:
        check.broken(f"step after the end raised {type(error).__name__}", remedy, error)
    check.broken("step after the end goes on", remedy)


def rendering(check: Promises) -> None:
    """Every render mode that it declares works, from the first message to the last."""
    remedy = "leave render to AgentEnv, or declare in metadata['render_modes'] only what works"
    with check.guarded("reading metadata['render_modes']", remedy):
        modes = [str(mode) for mode in check.kind.metadata["render_modes"]]
    for mode in modes:
        env = check.make(render_mode=mode)
        check.reset(env, check.tasks("train")[0])
        for turn in range(2):
            with check.guarded(f"render() in mode {mode!r}", remedy):
                shown: Any = env.render()
            if mode == "ansi" and not isinstance(shown, str):
                check.broken(f"render() in mode 'ansi' returned a {type(shown).__name__}", "return text")
            if not env.over:
                check.step(env, say(turn))


# ---- the same again ---------------------------------------------------------------------------------------------------


def determinism(check: Promises) -> None:
    """Seed and actions decide an episode, and nothing else does."""
    remedy = "draw all chance from self.np_random, which reset(seed=…) seeds"
    state, numbers = random.getstate(), str(np.random.get_state())
    first, second = _script(check, check.make(), 7), _script(check, check.make(), 7)
    if first != second:
        place = next(index for index, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1])
        check.broken(f"two episodes with one seed and the same actions differ, first at call {place} (0 is reset)", remedy)
    again = check.make()
    _script(check, again, 3)
    if _script(check, again, 7) != first:
        check.broken("an episode depends on the one before it in the same environment", "set all state up in begin()")
    if random.getstate() != state or str(np.random.get_state()) != numbers:
        check.broken("it draws from a random generator that the whole process shares", remedy)


def isolation(check: Promises) -> None:
    """Two environments of one process do not feel each other."""
    other = check.make()
    check.reset(other, seed=8)
    if _script(check, check.make(), 7, beside=other) != _script(check, check.make(), 7):
        check.broken("two environments of one process disturb each other", "keep state in the instance, not in the class or the module")


def _script(check: Promises, env: AgentEnv, seed: int, *, beside: AgentEnv | None = None) -> list[Any]:
    """A comparable record of an episode of arbitrary actions, with another environment playing between them."""
    with check.guarded("sampling its action space", "leave the spaces that AgentEnv.__init__ sets, or use MessageSpace"):
        env.action_space.seed(seed)
        sampled = [env.action_space.sample() for _ in range(6)]
    observation, info = check.reset(env, seed=seed)
    record: list[Any] = [(observation, info["task"].hash, info["anchor"], info["views"])]
    for action in (first_action(check.tools(env)), *sampled):
        if beside is not None and not beside.over:
            check.step(beside, first_action(check.tools(beside)))
        if not env.over:
            record.append(_comparable(check.step(env, action)))
    return record


def _comparable(result: tuple[Any, ...]) -> tuple[Any, ...]:
    """A step's result without its timings."""
    observation, reward, terminated, truncated, info = result
    results = tuple(result.model_copy(update={"seconds": 0.0}) for result in info["tool_results"])
    return observation, reward, terminated, truncated, {**info, "tool_results": results}


# ---- limits and mischief ----------------------------------------------------------------------------------------------


def limits(check: Promises) -> None:
    """Turns and time end an episode."""
    remedy = "leave step to AgentEnv: it counts turns and reads the clock"
    env = _limited(check, check.config.model_copy(update={"max_turns": 1, "time_limit": None, "tries": 99}), SYSTEM_CLOCK)
    if check.step(env, first_action(check.tools(env)))[4]["stop"] is None:
        check.broken("an episode goes on after max_turns=1", remedy)
    clock = ManualClock()
    env = _limited(check, check.config.model_copy(update={"max_turns": 9, "time_limit": 5.0, "tries": 99}), clock)
    clock.advance(6.0)
    if check.step(env, first_action(check.tools(env)))[4]["stop"] is None:
        check.broken("an episode goes on after its time_limit", remedy)


def _limited(check: Promises, config: EnvConfig, clock: Clock) -> AgentEnv:
    env = check.make(config, clock=clock)
    check.reset(env, check.tasks("train")[0])
    return env


def hostility(check: Promises) -> None:
    """Whatever a model writes is answered."""
    env = check.make()
    task = check.tasks("train")[0]
    for action in hostile_actions(check.tools(env)):
        check.reset(env, task)
        check.step(env, action)


# ---- the expert, and Gymnasium ----------------------------------------------------------------------------------------


def expert(check: Promises, tasks: int) -> None:
    """Where there is one it solves every task, for the reward that was promised."""
    with check.guarded(
        "expert(config)", "return an object with act(task, messages, rng), or raise NotImplementedError where there is none"
    ):
        try:
            found = check.kind.expert(check.config)
        except NotImplementedError:
            return
    player: Any = found
    if not callable(getattr(player, "act", None)):
        check.broken(f"expert(config) returned {player!r}", "return an object with act(task, messages, rng)")
    env = check.make()
    for task in check.tasks("val").take(tasks):
        _demonstrate(check, env, task, found)


def _demonstrate(check: Promises, env: AgentEnv, task: Task, player: Expert) -> None:
    promised, total, success = _played(check, env, task, player, 0)
    as_promised = promised is None or math.isclose(total, promised, abs_tol=1e-6)
    if success is not False and as_promised:
        return
    conversations, totals = [tuple(env.messages)], [total]
    for seed in range(1, SEEDS):
        totals.append(_played(check, env, task, player, seed)[1])
        conversations.append(tuple(env.messages))
    by_chance = max(totals) > min(totals) or any(each != conversations[0] for each in conversations)
    if success is False and max(totals) == min(totals):
        check.broken(f"its expert fails task {task.id!r}", "mend the expert, the grader or the limits: demonstrations come from it")
    mean = float(np.mean(totals))
    tolerance = 4 * float(np.std(totals)) / math.sqrt(SEEDS) + 3 / SEEDS * max(1.0, abs(mean)) if by_chance else 1e-6
    if promised is not None and abs(mean - promised) > tolerance:
        gets = f"{mean:.2f} on average over {SEEDS} seeds" if by_chance else str(total)
        check.broken(
            f"views() promises a value of {promised} for task {task.id!r}, and the expert gets {gets}",
            "give the exact return of optimal play, or None",
        )


def _played(check: Promises, env: AgentEnv, task: Task, player: Expert, seed: int) -> tuple[float | None, float, bool | None]:
    """The value that is promised at the start, the expert's return, and the verdict."""
    rng = np.random.default_rng(seed)
    _, info = check.reset(env, task, seed=seed)
    promised = info["views"].value if info["views"] is not None else None
    total, success = 0.0, None
    while not env.over:
        with check.guarded(f"the expert, on task {task.id!r},", "let it act from any conversation"):
            action: Any = player.act(task, tuple(env.messages), rng)
        if not isinstance(action, Message) or action.role != "assistant":
            check.broken(f"the expert, on task {task.id!r}, returned {action!r}", "return a Message of the assistant's")
        _, reward, _, _, info = check.step(env, action)
        total, success = total + reward, info["success"]
    return promised, total, success


def gymnasium_checker(check: Promises) -> None:
    """Gymnasium's own opinion, its warnings included."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with check.guarded("Gymnasium's checker", "keep to the Gymnasium interface; its message says where"):
            check_gymnasium(check.make(), skip_render_check=True)
