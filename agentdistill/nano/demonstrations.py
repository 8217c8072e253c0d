"""Demonstrations: the environment's expert, optimal or flawed, plays real episodes through the ordinary rollout."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from agentdistill.credit import rows
from agentdistill.env import AgentEnv, EnvConfig
from agentdistill.render import Renderer
from agentdistill.rollout import Players, plan, play
from agentdistill.teacher.views import with_hint
from agentdistill.train.session import expert_policy
from agentdistill.types import Episode, Message, Sample, Task, Turn

UNBOUNDED = 1 << 30
"""Tokens of a demonstration: before there is a tokenizer, each byte counts as one."""
AT_A_TIME = 512
"""Episodes: an episode weighs some fifty times what is learned of it."""


def demonstrate(
    env_class: type[AgentEnv],
    config: EnvConfig,
    renderer: Renderer,
    tasks: Sequence[Task],
    *,
    seed: int,
    flaws: Any = None,
    told: bool = False,
) -> Iterator[Episode]:
    """One episode a task, in their order, played by the expert; only some at a time are held.

    Args:
        flaws: the environment's own description of bad habits. ``None``: optimal.
        told: the prompt carries the answer as a hint, so that a model learns what a privileged view is for.
    """
    expert = expert_policy(env_class.expert(config, flaws=flaws), renderer)
    shown = [_told(task) for task in tasks] if told else list(tasks)
    players = Players(make_env=lambda: env_class(config), policies={"expert": expert}, renderer=renderer, max_tokens=UNBOUNDED)
    kind = f"nano-{'told' if told else 'flawed' if flaws is not None else 'expert'}"
    plays = plan(shown, seed=seed, kind=kind, step=0, shares={"expert": 1.0})
    for first in range(0, len(plays), AT_A_TIME):
        yield from play(plays[first : first + AT_A_TIME], players)


def right_moves(episodes: Iterable[Episode]) -> list[Sample]:
    """Token rows of which only the turns count where the expert's move was made: after a mistake there is something to learn, from the
    mistake there is not. Rows without any are left out."""
    found: list[Sample] = []
    for episode in episodes:
        right = [index for index, turn in enumerate(episode.turns) if _is_experts(turn)]
        for sample in rows([episode]):
            kept = np.isin(sample.turn, right)
            if kept.any():
                found.append(replace(sample, turn=np.where(kept, sample.turn, -1).astype(np.int32)))
    return found


def _is_experts(turn: Turn) -> bool:
    wanted = None if turn.views is None else turn.views.expert_action
    return wanted is not None and _said(turn.completion.message) == _said(wanted)


def _said(message: Message) -> tuple[str, tuple[tuple[str, Any], ...]]:
    return message.content, tuple((call.name, call.arguments) for call in message.tool_calls)


def _told(task: Task) -> Task:
    """The task with its answer as a hint; as it is, where it has none or nobody asks."""
    if task.answer is None or all(message.role != "user" for message in task.prompt):
        return task
    return task.model_copy(update={"prompt": with_hint(task.prompt, str(task.answer))})
