"""How outcome Z, critic C and teacher S become one advantage: added, scaled, gated or routed. Δ is the teacher's log-ratio ln p − ln q."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from agentdistill.config.base import Settings

Part = Literal["outcome", "critic", "teacher"]


class Add(Settings):
    """a₁Z + a₂C + a₃S."""

    mode: Literal["add"] = "add"


class Scale(Settings):
    """The outcome, stretched per token with its sign kept; the teacher's coefficient is λ.

    ``ratio``: B[(1 − λ) + λ clip(exp(sign(B) S), 1 ± clip)] with B = a₁Z + a₂C (RLSD, arXiv 2604.03128). ``residual``: B + clip(λ
    tanh(S/temperature), ±bound), stopped at 0 (RLCSD, arXiv 2606.11709).
    """

    mode: Literal["scale"] = "scale"
    form: Literal["ratio", "residual"] = "ratio"
    clip: float = Field(default=0.2, ge=0, lt=1)
    temperature: float = Field(default=1.0, gt=0)
    bound: float = Field(default=0.5, ge=0)
    threshold: float = Field(default=0.0, ge=0)
    """Residuals of at most this size are left out."""

    @model_validator(mode="after")
    def _hears(self) -> Self:
        if self.form == "ratio" and self.clip == 0:
            raise ValueError("clip=0 leaves the outcome as it is, whatever the teacher says; set it above 0")
        if self.form == "residual" and self.threshold >= self.bound:
            raise ValueError(f"no residual is above threshold={self.threshold:g} and within bound={self.bound:g}; lower the threshold")
        return self


class Gate(Settings):
    """a₁Z + a₂C + a₃ g S, with 0 ≤ g ≤ 1 per token and without gradient.

    * ``sigmoid``: σ(βΔ). SDAR, arXiv 2605.15155.
    * ``agreement``: 1 where Z and S have the same sign. SG-OPD, arXiv 2606.09304.
    * ``outcome``: low + (high − low) σ(−βZ), the more the worse the outcome. SOD's other gate, arXiv 2605.07725.
    * ``wrong``, ``right``: only in episodes of that verdict. KDRL, arXiv 2506.02208.
    """

    mode: Literal["gate"] = "gate"
    by: Literal["sigmoid", "agreement", "outcome", "wrong", "right"]
    beta: float = Field(default=5.0, gt=0)
    low: float = Field(default=0.0, ge=0, le=1)
    high: float = Field(default=1.0, gt=0, le=1)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low={self.low:g} is above high={self.high:g}; swap the two")
        return self


class Route(Settings):
    """Every token hears one part: that of its episode's verdict. SRPO, arXiv 2604.02288."""

    mode: Literal["route"] = "route"
    right: Part = "outcome"
    wrong: Part = "teacher"


Combine = Annotated[Add | Scale | Gate | Route, Field(discriminator="mode")]
