"""env=reasoning_gym: the generators of reasoning-gym, each with its own scorer.

    user       Calculate 3 + 4 * 2.
    assistant  14                            reward .01, a partial score; "That is not right. Try again."
    assistant  <answer>11</answer>           reward .99: over all tries the rewards sum to the best score

One try (``env.tries=1``) is the single-turn task as the package has it.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from agentdistill_envs.files import check_split
from agentdistill_envs.math.generated import SEEDS, Generator, generator
from agentdistill_envs.math.grade import final_answer, last_boxed
from pydantic import Field, JsonValue

from agentdistill.env import EnvConfig, Observation, Reply, ToolEnv
from agentdistill.interop.chance import Chance
from agentdistill.interop.foreign import FIRST_SEED, need
from agentdistill.taskset import TaskSet
from agentdistill.types import Message, Task, Views

SYSTEM = "Solve the problem. Reply with the final answer; after any reasoning, give it as <answer>...</answer>."

_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_LABELLED = re.compile(r"(?:\banswer\s*(?:is\s*:|:|=)|####)", re.IGNORECASE)


class ReasoningGymConfig(EnvConfig):
    """What env=reasoning_gym can be told."""

    dataset: str = "chain_sum"
    """Name of the generator."""
    dataset_config: dict[str, JsonValue] = Field(default_factory=dict)
    """Settings of its own; ``agentdistill env check reasoning_gym env.dataset_config={x: 1}`` names the valid ones."""
    level: int | dict[str, int] | None = None
    """Of its curriculum: for all attributes (an attribute without so high a level stays at its highest), or for each named one."""
    count: int = Field(default=1000, ge=1)
    """Tasks a split, made when they are wanted. Some generators take up to a second a task."""
    system: str = SYSTEM
    """The system prompt; empty: none."""
    success_at: float = Field(default=1.0, gt=0, le=1)
    """Score from which an answer is right, and ends the episode."""
    reward: Literal["score", "success"] = "score"
    """Partial credit, or 1 for a right answer and nothing else."""
    feedback: str = "That is not right. Try again."
    """What follows a wrong answer, while tries are left."""


class ReasoningGymEnv(ToolEnv):
    """Questions with a verifier, one or several tries each."""

    Config = ReasoningGymConfig
    name = "reasoning_gym"
    config: ReasoningGymConfig

    @classmethod
    def load_tasks(cls, config: ReasoningGymConfig, split: str) -> TaskSet:
        need("reasoning_gym", env=cls.name, extra="reasoning-gym")
        check_split(split)
        made = _generator(config, split)

        def make(index: int) -> Task:
            with Chance(FIRST_SEED[split] + index).own():
                entry = made.entry(index)
            answer = entry.get("answer")
            system = (Message.system(config.system),) if config.system else ()
            return Task(
                id=f"{config.dataset}-{split}-{index}",
                env=cls.name,
                prompt=(*system, Message.user(str(entry["question"]))),
                answer=None if answer is None else str(answer),
                data={"split": split, "index": index},
            )

        return TaskSet.from_source(config.dataset, make, config.count, split=split)

    @classmethod
    def expert(cls, config: ReasoningGymConfig, *, flaws: Any = None) -> Expert:
        if cls.load_tasks(config, "train")[0].answer is None:
            raise NotImplementedError(f"reasoning-gym generator {config.dataset!r} does not say its answers")
        return Expert()

    def begin(self, task: Task) -> Observation:
        self._best, self._tried = 0.0, 0
        self._index = int(str(task.data["index"]))
        self._made = _generator(self.config, str(task.data["split"]))
        return task.prompt

    def answer(self, message: Message) -> Reply:
        self._tried += 1
        with Chance(self._index).own():
            score = max(self._made.score(answer, self._index) for answer in answers(message.content))
        right = score >= self.config.success_at
        gain = max(0.0, score - self._best) if self.config.reward == "score" else float(right)
        self._best = max(self._best, score)
        over = right or self._tried >= self.config.tries
        said = () if over else (Message.user(self.config.feedback),)
        return Reply(messages=said, parts={"answer": gain}, done=over, success=right if over else None)

    def views(self) -> Views:
        answer = self.task.answer
        said = f"The best answer so far scores {self._best:.3g} of 1." if self._tried else None
        return Views(answer=None if answer is None else str(answer), feedback=said)


class Expert:
    """Says the answer."""

    def act(self, task: Task, messages: tuple[Message, ...], rng: Any) -> Message:
        return Message.assistant(str(task.answer))


def answers(text: str) -> list[str]:
    """What a message may mean as its answer: what is tagged, boxed or labelled; else all of it, with and without its final full stop."""
    tagged = _TAGGED.findall(text)
    if tagged:
        return [tagged[-1].strip()]
    if last_boxed(text) is not None or _LABELLED.search(text):
        return [final_answer(text)]
    return list(dict.fromkeys((text.strip(), final_answer(text))))


def _generator(config: ReasoningGymConfig, split: str) -> Generator:
    with Chance(0).own():
        return generator(
            config.dataset, SEEDS[split], config.count, json.dumps(config.dataset_config, sort_keys=True), json.dumps(config.level)
        )
