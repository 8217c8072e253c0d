"""``agentdistill nano build``: tokenizer, teacher and student of an environment, from its own expert.

    demonstrations (expert, flawed, told) ──> tokenizer ──> rows ──> fit teacher, fit student ──> score card

The teacher solves the tasks. The student knows the format and has bad habits, so its success starts low and outcome reward rarely
fires. Both also saw prompts with the answer as a hint, where the demonstration is optimal: a self-teacher has something to use.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from agentdistill.clock import SYSTEM_CLOCK, Clock
from agentdistill.credit import rows
from agentdistill.env import AgentEnv, EnvConfig
from agentdistill.errors import ConfigError, UsageError, boundary
from agentdistill.nano.corpus import python_texts, tool_texts
from agentdistill.nano.demonstrations import demonstrate, right_moves
from agentdistill.nano.fit import fit, new_model
from agentdistill.nano.recipe import RECIPES, UNDER_TRAINED, Kind, Recipe, default_recipe
from agentdistill.nano.tokenizer import train_tokenizer
from agentdistill.policy.hf import HFPolicy
from agentdistill.render import Renderer
from agentdistill.rollout import Players, plan, play
from agentdistill.types import Episode, Sample, Sampling, Task

Role = Literal["teacher", "student"]
Say = Callable[[str], None]
TOKENIZER_SHARE = 1200
"""Conversations of each kind, and as many texts of Python and of tools, that the tokenizer is trained on."""


class Builder:
    """Builds what is asked for, and only once what several parts need."""

    def __init__(
        self,
        env_class: type[AgentEnv],
        config: EnvConfig,
        recipe: Recipe,
        out: Path,
        *,
        say: Say,
        score_tasks: int | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """
        Args:
            out: holds a folder for each role.
            say: hears how it goes.
            score_tasks: of each held-out split, for the score card. ``None``: all.

        Raises:
            UsageError: the environment has no expert for these tasks.
        """
        self.env_class, self.config, self.recipe, self.out, self.say, self.clock = env_class, config, recipe, out, say, clock
        self.score_tasks = score_tasks
        self._taught = type(config)(**(config.model_dump() | recipe.env))
        torch.set_num_threads(1)
        try:
            env_class.expert(config)
        except NotImplementedError as error:
            raise UsageError(f"nano models learn from the environment's expert, and there is none here: {error}") from error
        with boundary(UsageError, f"environment {config.name!r}: expert(config, flaws={self._flaws()}), which its bad_habits ask for"):
            env_class.expert(config, flaws=self._flaws() or None)

    def save_tokenizer(self, roles: Sequence[Role]) -> None:
        """Train the tokenizer and put it into the folder of each role."""
        tokenizer = self.tokenizer()
        for role in roles:
            with writing(self.out / role):
                tokenizer.save_pretrained(self.out / role)
        self.say(f"tokenizer: {len(tokenizer)} tokens")

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Train the tokenizer on conversations of the environment and, if the recipe says so, on general text of code and tools."""
        plain = Renderer(train_tokenizer(["plain"], vocab_size=300))
        share = min(TOKENIZER_SHARE, self.recipe.demonstrations)
        tasks = self.tasks(share)
        texts: list[str] = []
        flawed = ((False, self._flaws()),) if self.recipe.flaws else ()
        for told, flaws in ((False, None), *flawed, (True, None)):
            for episode in demonstrate(self.env_class, self._taught, plain, tasks, seed=self.recipe.seed, flaws=flaws, told=told):
                texts.append(conversation_text(plain, episode))
        if self.recipe.general:
            texts += [*python_texts(share, self.recipe.seed), *tool_texts(share, self.recipe.seed)]
        return train_tokenizer(texts, vocab_size=self.recipe.vocab_size, single=self.recipe.single, words=self.recipe.words)

    def tasks(self, count: int) -> list[Task]:
        """The first tasks that are demonstrated."""
        return list(self.env_class.load_tasks(self._taught, "train").take(count))

    def demonstrations(self, renderer: Renderer, kinds: Sequence[Kind]) -> dict[Kind, list[Sample]]:
        """Token rows of each kind of demonstration."""
        found: dict[Kind, list[Sample]] = {}
        tasks = self.tasks(self.recipe.demonstrations)
        for kind in kinds:
            flaws = {"flawed": self._flaws(), "mended": dict(self.recipe.slips)}.get(kind)
            learned = right_moves if kind == "mended" else rows
            told, seed = kind == "told", self.recipe.seed
            samples, successes, failure = [], 0, None
            for episode in demonstrate(self.env_class, self._taught, renderer, tasks, seed=seed, flaws=flaws, told=told):
                samples += learned([episode])
                successes += bool(episode.success)
                failure = failure or (episode.failure.message if episode.failure else episode.status.value)
            if not samples:
                raise UsageError(
                    f"of {len(tasks)} {kind} demonstrations none could be played to its end: {failure}; "
                    f"see what `agentdistill env check {self.config.name}` says"
                )
            found[kind] = samples
            tokens = sum(len(sample) for sample in samples) / len(samples)
            self.say(f"{len(tasks)} {kind} demonstrations: {tokens:.0f} tokens each, {successes / len(tasks):.3f} succeed")
        return found

    def model(self, role: Role, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
        """Train, save and score one model; returns its score card."""
        recipe = self.recipe.teacher if role == "teacher" else self.recipe.student
        renderer = Renderer(tokenizer)
        demonstrations = self.demonstrations(renderer, recipe.kinds)
        seed = self.recipe.seed * 2 + (role == "student" and not self.recipe.fork)
        model = new_model(tokenizer, recipe.shape, seed)
        began = self.clock.cpu()
        fit(model, demonstrations, recipe, seed, report=lambda step, loss: self.say(f"{role} step {step}/{recipe.steps} loss {loss:.4f}"))
        spent = self.clock.cpu() - began
        directory = self.out / role
        save(model, tokenizer, directory)
        card = self.score(model, renderer) | {
            "env": self.config.name,
            "role": role,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "training_cpu_s": round(spent),
            "seed": seed,
            "recipe": recipe.model_dump(),
            "demonstrations": self.recipe.demonstrations,
            "made_with": {"torch": torch.__version__, "transformers": transformers.__version__, "python": platform.python_version()},
        }
        (directory / "scorecard.json").write_text(json.dumps(card, indent=2) + "\n")
        self.say(f"{role}: greedy {card['greedy']}, sampled {card['sampled']}")
        return card

    def score(self, model: LlamaForCausalLM, renderer: Renderer) -> dict[str, Any]:
        """Success on the held-out splits, greedy and at temperature 1."""
        policy = HFPolicy(model, renderer, name="student")
        card: dict[str, Any] = {"tasks": {}, "greedy": {}, "sampled": {}}
        for split in ("val", "test"):
            tasks = self.env_class.load_tasks(self.config, split)
            tasks = tasks if self.score_tasks is None else tasks.take(self.score_tasks)
            card["tasks"][split] = len(tasks)
            for name, temperature in (("greedy", 0.0), ("sampled", 1.0)):
                players = Players(
                    make_env=lambda: self.env_class(self.config),
                    policies={"student": policy},
                    renderer=renderer,
                    sampling=Sampling(temperature=temperature, max_new_tokens=96),
                )
                episodes = play(plan(list(tasks), seed=self.recipe.seed, kind=f"score-{name}", step=0), players)
                card[name][split] = round(sum(bool(episode.success) for episode in episodes) / len(episodes), 4)
        return card

    def _flaws(self) -> Any:
        return dict(self.recipe.flaws)


def conversation_text(renderer: Renderer, episode: Episode) -> str:
    """The episode as the model sees it, as text."""
    return renderer.decode([token for turn in episode.turns for token in (*turn.context_ids, *turn.completion.token_ids)])


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, directory: Path) -> None:
    """A checkpoint in Hugging Face form."""
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with _without_bar():
            model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)


def writing(directory: Path) -> AbstractContextManager[None]:
    """Around what saves: safetensors and tokenizers raise errors of their own when a disk is full."""
    return boundary(UsageError, f"cannot write to {str(directory)!r}; free some space, or name another folder")


def recipe_for(env_class: type[AgentEnv], env: str, seed: int, *, steps: int | None = None, demonstrations: int | None = None) -> Recipe:
    """The recipe of an environment, or the default one, with the environment's bad habits; with another seed, and smaller, if asked.

    Raises:
        ConfigError: its bad habits are not probabilities by name.
    """
    with boundary(
        ConfigError, f"environment {env!r}: bad_habits={env_class.bad_habits!r} must be numbers by name, as expert(flaws=...) takes"
    ):
        habits = dict(env_class.bad_habits or {})
        recipe = Recipe(**RECIPES[env].model_dump() | {"flaws": habits}) if env in RECIPES else default_recipe(habits)
    recipe = recipe.model_copy(update={"seed": seed})
    if demonstrations is not None:
        recipe = recipe.model_copy(update={"demonstrations": demonstrations})
    if steps is not None:
        fewer = {"teacher": steps, "student": steps if recipe.flaws else max(1, steps // UNDER_TRAINED)}
        recipe = recipe.model_copy(update={role: getattr(recipe, role).shortened(n) for role, n in fewer.items()})
    return recipe


@contextmanager
def _without_bar() -> Iterator[None]:
    """No progress bar of the library's for what is written at once."""
    bars = transformers.utils.logging
    if not bars.is_progress_bar_enabled():
        yield
        return
    bars.disable_progress_bar()
    try:
        yield
    finally:
        bars.enable_progress_bar()
