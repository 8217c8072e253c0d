"""Weights of tokens: functions of what is known of a token before the update, multiplied with each other."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from agentdistill.config.base import Settings


class Weight(Settings):
    """Base of all weights."""

    hears_teacher: ClassVar[bool] = False
    """Whether it is a function of the teacher's log-probabilities; where the teacher gave none, the weight is 1."""

    from_step: int = Field(default=0, ge=0)
    until_step: int | None = Field(default=None, ge=1)
    """The weight acts in steps ``from_step`` to ``until_step`` − 1 and is 1 outside. ``None``: to the end."""

    @model_validator(mode="after")
    def _acts_at_all(self) -> Self:
        if self.until_step is not None and self.until_step <= self.from_step:
            raise ValueError(f"from_step={self.from_step} and until_step={self.until_step} leave no step in which the weight acts")
        return self

    def acts(self, step: int) -> bool:
        return self.from_step <= step and (self.until_step is None or step < self.until_step)


class EntropyWeight(Weight):
    """Keep the share of tokens at which the student is least sure. Revisiting On-Policy Distillation, arXiv 2603.25562."""

    kind: Literal["entropy"] = "entropy"
    share: float = Field(default=0.2, gt=0, le=1)


class TipWeight(Weight):
    """Keep the tokens that are in the top share by entropy or by |ln p − ln q|. TIP, arXiv 2604.14084."""

    hears_teacher: ClassVar[bool] = True
    kind: Literal["tip"] = "tip"
    share: float = Field(default=0.5, gt=0, le=1)


class FloorWeight(Weight):
    """Keep tokens whose log-ratio ln p − ln q is at least ``floor``. REOPOLD phase 1, arXiv 2603.11137."""

    hears_teacher: ClassVar[bool] = True
    kind: Literal["floor"] = "floor"
    floor: float


class PositionWeight(Weight):
    """By the token's place i among the n of its episode: 1 + (end − 1) i/(n − 1), or 2^(−i/half_life). Arxiv 2605.21606."""

    kind: Literal["position"] = "position"
    shape: Literal["linear", "exponential"] = "linear"
    end: float = Field(default=0.0, ge=0)
    half_life: float | None = Field(default=None, gt=0)
    """Tokens; of ``exponential``, which needs it."""

    @model_validator(mode="after")
    def _shape(self) -> Self:
        if (self.shape == "exponential") != (self.half_life is not None):
            raise ValueError("shape=exponential needs half_life=<tokens>, and only it does")
        return self


class PrefixImportanceWeight(Weight):
    """1 + (maximum − 1)(1 − share of Σ|ln p − ln q| that lies before the token). IW-OPD, arXiv 2606.22600."""

    hears_teacher: ClassVar[bool] = True
    kind: Literal["prefix_importance"] = "prefix_importance"
    maximum: float = Field(default=1.5, ge=1)


class TurnDriftWeight(Weight):
    """min((d_1 + ε)/(d_k + ε), 1 + δ) with d_k the mean |ln p − ln q| of turn k. SOD, arXiv 2605.07725."""

    hears_teacher: ClassVar[bool] = True
    kind: Literal["turn_drift"] = "turn_drift"
    delta: float = Field(default=0.2, ge=0)
    epsilon: float = Field(default=1e-6, gt=0)


class LastTokenWeight(Weight):
    """Leave out the token that ends each completion. PowerOPD, arXiv 2606.17199."""

    kind: Literal["last_token"] = "last_token"


class SpecialTokenWeight(Weight):
    """Leave out the tokenizer's special tokens."""

    kind: Literal["special_tokens"] = "special_tokens"


class TeacherEntropyWeight(Weight):
    """Keep tokens where the teacher's entropy (nats) is within bounds; only a divergence term sees it. EOPD, arXiv 2603.07079."""

    kind: Literal["teacher_entropy"] = "teacher_entropy"
    above: float | None = None
    below: float | None = None

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.above is None and self.below is None:
            raise ValueError("teacher_entropy needs above=<nats>, below=<nats>, or both")
        if self.above is not None and self.below is not None and self.above >= self.below:
            raise ValueError(f"no entropy is above {self.above:g} and below {self.below:g}; swap the two")
        return self


class TeachabilityWeight(Weight):
    """The teacher's mass inside the student's ``k`` most likely tokens; only a divergence term sees it. Arxiv 2605.26844."""

    kind: Literal["teachability"] = "teachability"
    k: int = Field(default=16, ge=1)


DenseWeight = TeacherEntropyWeight | TeachabilityWeight
"""Weights that need the teacher's whole distribution: the kernel computes them."""
TokenWeight = Annotated[
    EntropyWeight
    | TipWeight
    | FloorWeight
    | PositionWeight
    | PrefixImportanceWeight
    | TurnDriftWeight
    | LastTokenWeight
    | SpecialTokenWeight
    | TeacherEntropyWeight
    | TeachabilityWeight,
    Field(discriminator="kind"),
]
