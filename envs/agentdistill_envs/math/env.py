"""MathEnv: a question, a calculator that does one operation a call, and a verdict on each final answer.

    system     Use the calculator for each operation, then reply with the number.
    user       3*(4+17)
    assistant  -> calculator(expression="4+17")
    tool       21
    assistant  -> calculator(expression="3*21")
    tool       63
    assistant  63                                   reward 1, the end; a wrong one: "Wrong. Try again."

A message with tool calls is work, a message without any is a final answer.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from typing import Any, Self

import networkx as nx
from pydantic import Field, model_validator

from agentdistill.env import EnvConfig, Observation, Reply, ToolEnv, tool
from agentdistill.taskset import TaskSet
from agentdistill.types import Message, Task, Views
from agentdistill_envs.math.calculator import calculate
from agentdistill_envs.math.expert import BAD_HABITS, MathExpert, best_move, tree_of
from agentdistill_envs.math.expression import render
from agentdistill_envs.math.generated import PREFIX, grade_generated, load_generated
from agentdistill_envs.math.grade import grade_exact, grade_value
from agentdistill_envs.math.progress import Progress, expression_graph
from agentdistill_envs.math.tasks import load


class MathConfig(EnvConfig):
    """What env=math can be told."""

    calls: tuple[int, int] | None = None
    """Only nano tasks with so many operations, lowest and highest. ``None``: all."""
    generated: int = Field(default=1000, ge=1)
    """Tasks a split, where they come from a generator (``tasks=reasoning_gym:<name>``)."""
    retry_discount: float = Field(default=1.0, ge=0, le=1)
    """Reward of a right answer after n wrong ones is this to the power n. 1: a late right answer counts in full."""

    @model_validator(mode="after")
    def _calls_in_order(self) -> Self:
        if self.calls is not None and not 1 <= self.calls[0] <= self.calls[1]:
            raise ValueError(f"calls={list(self.calls)} must be [lowest, highest] with 1 <= lowest <= highest, for instance [3, 4]")
        return self


class MathEnv(ToolEnv):
    """Arithmetic and word problems with a calculator."""

    Config = MathConfig
    name = "math"
    bad_habits = BAD_HABITS.model_dump(exclude_defaults=True)
    config: MathConfig

    def begin(self, task: Task) -> Observation:
        self.wrong: list[str] = []
        """Wrong answers so far."""
        self._key = task.hash
        self._progress = Progress(tree_of(task)) if "expression" in task.data else None
        return task.prompt

    @classmethod
    def load_tasks(cls, config: MathConfig, split: str) -> TaskSet:
        if config.tasks.startswith(PREFIX):
            return load_generated(config.tasks.removeprefix(PREFIX), split, config.generated)
        return _nano(config.calls, split) if config.tasks == "nano" else load(config.tasks, split, config.calls)

    @classmethod
    def expert(cls, config: MathConfig, *, flaws: Any = None) -> MathExpert:
        if config.tasks != "nano":
            raise NotImplementedError(f"env 'math' has a scripted expert for tasks='nano' only, not for tasks={config.tasks!r}")
        return MathExpert(flaws)

    @classmethod
    def task_graph(cls, config: MathConfig, task: Task) -> nx.DiGraph[str]:
        if "expression" not in task.data:
            raise NotImplementedError("env 'math' draws graphs of nano tasks only")
        return expression_graph(tree_of(task))

    @tool
    def calculator(self, expression: str) -> str:
        """Does one operation.

        Args:
            expression: like 4+17
        """
        return calculate(expression)

    # ---- verdicts -------------------------------------------------------------------------------------------------

    def answer(self, message: Message) -> Reply:
        if self.right(message.content):
            return Reply(parts={"answer": self.config.retry_discount ** len(self.wrong)}, done=True, success=True)
        self.wrong.append(message.content)
        if self.tries_left > 0:
            return Reply(messages=(Message.user("Wrong. Try again."),), parts={"answer": 0.0})
        return Reply(messages=(Message.user("Wrong."),), parts={"answer": 0.0}, done=True, success=False)

    def right(self, answer: str) -> bool:
        """Whether a final answer is right: exactly for nano tasks, by the generator's own scorer for generated ones, else by value."""
        if self._progress is not None:
            return grade_exact(answer, str(self.task.answer))
        return grade_generated(answer, self.task) if "generator" in self.task.data else grade_value(answer, str(self.task.answer))

    @property
    def tries_left(self) -> int:
        return self.config.tries - len(self.wrong)

    # ---- what the environment knows of the present state ------------------------------------------------------------

    def anchor(self) -> str:
        """Equal where the same operations were computed (in any order) for the same task and as many tries are left.

        For other tasks than nano ones: where the conversations are equal.
        """
        progress = self._now()
        known = sorted(progress.done) if progress is not None else [message.model_dump(mode="json") for message in self.messages]
        return hashlib.sha256(json.dumps([self._key, known, self.tries_left]).encode()).hexdigest()[:16]

    def views(self) -> Views:
        """The right answer; and for nano tasks a hint, the expert's move, the exact value and what was wrong with the last answer.

        The value is the return of the expert, which needs a turn for each call that is left and one for the answer.
        """
        answer = str(self.task.answer)
        progress = self._now()
        if progress is None:
            return Views(answer=answer, feedback="The last answer is wrong." if self.wrong else None)
        step = progress.next()
        enough = self.tries_left > 0 and self.turns_left > progress.remaining()
        return Views(
            answer=answer,
            feedback=_what_was_wrong(progress) if self.wrong else None,
            hint=f"Compute {step.operation()}." if step is not None else f"Answer {answer}.",
            expert_action=best_move(progress),
            value=self.config.retry_discount ** len(self.wrong) if enough else 0.0,
        )

    def _now(self) -> Progress | None:
        return self._progress.read(self.messages) if self._progress is not None else None


def _what_was_wrong(progress: Progress) -> str:
    """With the last answer."""
    answer = progress.answers[-1]
    part = progress.part(answer)
    if part is not None:
        return f"{answer} is only {part}."
    stray = progress.stray()
    if stray is None:
        return f"{answer[:40] or 'Nothing'} is not the value of {render(progress.tree)}."
    due = progress.next()
    return f"{stray} is not part of the task{f', {due.operation()} is' if due is not None else ''}."


@lru_cache(maxsize=32)
def _nano(calls: tuple[int, int] | None, split: str) -> TaskSet:
    """The shipped files do not change under a running process, unlike the user's own."""
    return load("nano", split, calls)
