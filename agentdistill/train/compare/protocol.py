"""What a comparison is: its protocol, its arms, and the runs that they come to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from agentdistill.config.schema import Settings
from agentdistill.errors import UsageError
from agentdistill.store import replace_text

PLAY_SEED = 0
"""Of every held-out play, in all arms and seeds."""


class Protocol(Settings):
    """What all arms have in common."""

    seeds: int = Field(default=3, ge=1, le=1000)
    """Reported runs of an arm; their seeds are 0, 1, …"""
    tuning_seed: int = Field(default=1000, ge=0)
    """Seed of the runs that choose an arm's learning rate; none of the reported ones."""
    budget: int = Field(default=400_000, ge=1)
    """Training tokens of a reported run (``budget`` of a training run says what counts)."""
    tuning_budget: int | None = Field(default=None, ge=1)
    """Of a tuning run. ``None``: the same."""
    every: int | None = Field(default=None, ge=1)
    """Training tokens between measurements. ``None``: an eighth of the budget."""
    tasks: int = Field(default=128, ge=1)
    """Held-out tasks, the first ones of the split."""
    plays: int = Field(default=2, ge=1)
    """Of each task at temperature 1 at each point of the curve; there is a greedy one beside."""
    samples: int = Field(default=8, ge=1)
    """The same at the end."""
    target: float = Field(default=0.5, gt=0, le=1)
    """Sampled success whose price in tokens is told."""
    criterion: Literal["area", "final"] = "area"
    """What chooses a learning rate: the mean of sampled success over the tuning budget, or sampled success at the end."""
    split: str = "test"
    tuning_split: str = "val"
    steps: int = Field(default=5000, ge=1)
    """The most steps of a run, so that one that no longer samples anything ends too; then it is told."""

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.tuning_seed < self.seeds:
            raise ValueError(f"tuning_seed={self.tuning_seed} is one of the reported seeds 0 … {self.seeds - 1}; choose another")
        if self.split == self.tuning_split:
            raise ValueError(
                f"split and tuning_split are both {self.split!r}; a rate that was chosen on the reported tasks flatters its arm"
            )
        return self

    def tokens(self, *, tuning: bool) -> int:
        """Budget of a run."""
        return self.tuning_budget or self.budget if tuning else self.budget

    @property
    def interval(self) -> int:
        """Training tokens between measurements."""
        return self.every or max(1, self.budget // 8)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One combination of what is compared."""

    name: str
    overrides: tuple[str, ...]
    """Of its training runs, but for what the protocol says."""
    rates: tuple[float, ...]
    """The grid."""
    resolved: dict[str, Any]
    """Its configuration, every value."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training run of a comparison."""

    arm: Arm
    rate: float
    seed: int
    tuning: bool

    @property
    def name(self) -> str:
        return f"{self.arm.name}-lr{self.rate:g}-{'tuning' if self.tuning else f'seed{self.seed}'}"

    def overrides(self, protocol: Protocol) -> list[str]:
        """Words for ``agentdistill train``, but for the run's name and folder."""
        split = protocol.tuning_split if self.tuning else protocol.split
        fixed = {
            "seed": self.seed,
            "learner.lr": repr(self.rate),
            "steps": protocol.steps,
            "budget": protocol.tokens(tuning=self.tuning),
            "eval.seed": PLAY_SEED,
            "eval.split": split,
            "eval.progress_split": split,
            "eval.tasks": protocol.tasks,
            "eval.progress_tasks": protocol.tasks,
            "eval.every": 0,
            "eval.every_tokens": protocol.interval,
            "eval.progress_samples": protocol.plays,
            "eval.samples": protocol.samples,
        }
        return [*self.arm.overrides, *(f"{key}={value}" for key, value in fixed.items())]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A protocol and its arms, in a folder."""

    path: Path
    protocol: Protocol
    arms: tuple[Arm, ...]

    def tuning(self, arm: Arm) -> list[Job]:
        """Runs that choose the arm's rate; none where there is only one."""
        rates = arm.rates if len(arm.rates) > 1 else ()
        return [Job(arm=arm, rate=rate, seed=self.protocol.tuning_seed, tuning=True) for rate in rates]

    def reported(self, arm: Arm, rate: float) -> list[Job]:
        return [Job(arm=arm, rate=rate, seed=seed, tuning=False) for seed in range(self.protocol.seeds)]

    def tokens(self) -> int:
        """Training tokens of all runs together."""
        tuned = sum(len(self.tuning(arm)) for arm in self.arms)
        return tuned * self.protocol.tokens(tuning=True) + len(self.arms) * self.protocol.seeds * self.protocol.budget

    # ---- on the disk -----------------------------------------------------------------------------------------------

    def statement(self) -> dict[str, Any]:
        """What makes it this comparison: the same name with another statement is refused."""
        arms = [
            {"name": arm.name, "overrides": list(arm.overrides), "rates": list(arm.rates), "settings": arm.resolved} for arm in self.arms
        ]
        return {"protocol": self.protocol.model_dump(mode="json"), "arms": arms}

    def hold(self) -> None:
        """Write the statement, or see that the one that is there is the same.

        Raises:
            UsageError: the folder has another comparison, or something else.
        """
        file = self.path / STATEMENT
        if file.is_file():
            if changed := list(_differences(json.loads(file.read_text("utf-8")), json.loads(json.dumps(self.statement())))):
                more = f"; and {len(changed) - 3} more" if len(changed) > 3 else ""
                raise UsageError(
                    f"comparison {self.path.name!r} goes on as it was begun: {'; '.join(changed[:3])}{more}. Its runs would not be "
                    f"comparable; take another name with name=NAME, or look at it with `agentdistill compare show {self.path.name}`"
                )
            return
        if self.path.exists() and any(self.path.iterdir()):
            raise UsageError(f"{self.path} exists and is no comparison; choose another name with name=NAME")
        self.path.mkdir(parents=True, exist_ok=True)
        replace_text(file, json.dumps(self.statement(), indent=1))


STATEMENT = "protocol.json"


def load(path: Path) -> Comparison:
    """A comparison as it was begun.

    Raises:
        UsageError: there is none.
    """
    file = path / STATEMENT
    if not file.is_file():
        there = sorted(found.parent.name for found in path.parent.glob(f"*/{STATEMENT}"))
        raise UsageError(f"no comparison {path.name!r} in {path.parent}; there are: {', '.join(there) or 'none'}")
    stated = json.loads(file.read_text("utf-8"))
    arms = tuple(
        Arm(name=arm["name"], overrides=tuple(arm["overrides"]), rates=tuple(arm["rates"]), resolved=arm["settings"])
        for arm in stated["arms"]
    )
    return Comparison(path=path, protocol=Protocol.model_validate(stated["protocol"]), arms=arms)


def _differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """Each value that differs, as a sentence."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            yield from _differences(old.get(key), new.get(key), f"{where}.{key}" if where else key)
    elif isinstance(old, list) and isinstance(new, list) and old and new and isinstance(old[0], dict) and isinstance(new[0], dict):
        before, after = ({each["name"]: each for each in arms} for arms in (old, new))
        if list(before) != list(after):
            yield f"the arms were {', '.join(before)}, not {', '.join(after)}"
            return
        for name in before:
            yield from _differences(before[name], after[name], name)
    elif old != new:
        yield f"{where} was {old}, not {new}"
