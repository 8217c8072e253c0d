"""How nano models are made: every number that decides the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from pydantic import Field, JsonValue

from agentdistill.nano.tokenizer import DIGITS, OPERATORS, SYMBOLS
from agentdistill.types import Record

Kind = Literal["expert", "flawed", "mended", "told"]


class Shape(Record):
    """A Llama-shaped causal language model with tied embeddings."""

    hidden: int = 64
    layers: int = 3
    heads: int = 4
    intermediate: int = 176
    positions: int = 2048


class Training(Record):
    """One model's training: next-token prediction on the sampled tokens of demonstrations.

    Muon for the hidden matrices, AdamW for the rest ("Muon: an optimizer for hidden layers in neural networks", Jordan et al., 2024),
    learning rates constant after warm-up and then falling linearly to zero.
    """

    steps: int
    shape: Shape = Shape()
    batch: int = 64
    muon_lr: float = 0.02
    adam_lr: float = 3e-3
    warmup: int = 20
    decay: float = 0.4
    """Last share of the steps over which the rates fall."""
    expert: float = 1.0
    """Share of optimal demonstrations; the rest is flawed."""
    flawed_tail: float = 0.0
    """Last share of the steps that sees, of the demonstrations without a hint, flawed ones only."""
    mended: float = 0.0
    """Share of demonstrations that slip now and then, of which only the right moves are learned: what to do after a mistake."""
    told: float = 0.1
    """Share of optimal demonstrations whose prompt carries the answer as a hint."""
    then: Training | None = None
    """A second training from where this one ended, with fresh optimizers and draws; its ``shape`` says nothing."""

    def shortened(self, steps: int) -> Training:
        """The same with ``steps`` steps, and no more of them in what comes after."""
        after = self.then and self.then.shortened(min(steps, self.then.steps))
        return self.model_copy(update={"steps": steps, "then": after})

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Of demonstrations that are drawn, this training's and those of what comes after."""
        wanted = {"expert": True, "flawed": self.expert < 1 or self.flawed_tail > 0, "mended": self.mended > 0, "told": True}
        after = self.then.kinds if self.then else ()
        return tuple(kind for kind in get_args(Kind) if wanted[kind] or kind in after)


class Recipe(Record):
    """Tokenizer, teacher and student of one environment."""

    seed: int = 0
    vocab_size: int = 1024
    single: str = SYMBOLS
    """Characters that are always tokens of their own."""
    words: tuple[str, ...] = ()
    """What never merges with its surroundings: values that are copied from one place to another are then the same tokens in both."""
    general: bool = True
    """Whether the tokenizer is trained on text of code and tools too, beside the environment's own conversations."""
    env: dict[str, JsonValue] = Field(default_factory=dict)
    """Settings of the environment for the demonstrations alone, for instance to have more tasks than are committed."""
    demonstrations: int = 4096
    """Of each kind; they are drawn from the train split in its order, again and again."""
    teacher: Training = Training(steps=700)
    student: Training = Training(steps=500, expert=0.5, flawed_tail=0.2)
    flaws: dict[str, float] = Field(default_factory=dict)
    """Of the student's demonstrations: the environment's ``bad_habits``, see :func:`agentdistill.nano.build.recipe_for`."""
    slips: dict[str, float] = Field(default_factory=dict)
    """The same for the mistakes in mended demonstrations."""
    fork: bool = False
    """Both models have one seed, so with one training to begin with they part at what comes ``then``: a student that once could."""


_NAMES = "Ann Ben Cem Dina Eve Finn Gil Hana Ivo Jane Kofi Lea Max Nora Omar Pia"
_ITEMS = "lamp book chair pen mug hat bag clock drum fan kite plant ring sofa tent vase"
_CITIES = "Oslo Rome Lima Cairo Paris Tokyo Delhi Quito"
_STATES = "late broken wrong open paid shipped"
SHOP_WORDS = tuple(f"{_NAMES} {_ITEMS} {_CITIES} {_STATES}".split())
"""Names, items, cities, reasons and states of env=tools."""

_SHOPKEEPER = Training(steps=2500, mended=0.2, shape=Shape(hidden=96, intermediate=256))

RECIPES: dict[str, Recipe] = {
    "math": Recipe(),
    "tools": Recipe(
        vocab_size=1536,
        single=DIGITS,
        general=False,
        words=SHOP_WORDS,
        env={"tasks": "sampled", "count": 16384},
        demonstrations=16384,
        fork=True,
        teacher=_SHOPKEEPER.model_copy(update={"then": Training(steps=2000, muon_lr=0.01, adam_lr=2e-3, decay=1.0, mended=0.2)}),
        student=_SHOPKEEPER.model_copy(
            update={"then": Training(steps=250, muon_lr=0.005, adam_lr=1e-3, decay=1.0, expert=0.3, flawed_tail=0.5)}
        ),
        slips={"skip_look": 0.15, "miscopy": 0.1},
    ),
}

UNDER_TRAINED = 8
"""Where an environment names no bad habits, its student has this fraction of the teacher's steps instead."""


def default_recipe(flaws: Mapping[str, float] | None) -> Recipe:
    """For an environment without a recipe of its own: smaller than those of the shipped models."""
    teacher = Training(steps=400, batch=32)
    under_trained = teacher.model_copy(update={"steps": teacher.steps // UNDER_TRAINED})
    flawed = Training(steps=300, batch=32, expert=0.5, flawed_tail=0.2)
    return Recipe(
        single=DIGITS + OPERATORS,
        general=False,
        demonstrations=2048,
        teacher=teacher,
        student=flawed if flaws else under_trained,
        flaws=dict(flaws or {}),
    )
