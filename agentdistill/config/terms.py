"""The terms that a method may be a sum of. p is the teacher, q the student, y the sampled token, u = p/q.

divergence        D(target, q) over the vocabulary, differentiated through the student
policy_gradient   −ψ(ρ, Â),  Â = combine(outcome, critic, teacher)
kl_estimate       a sampled-token estimate, differentiated as it stands
supervised        −ln q(y)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from agentdistill.config.base import Settings
from agentdistill.config.combine import Add, Combine
from agentdistill.config.schedule import Coefficient, Schedule, at, is_zero
from agentdistill.config.value import Gae
from agentdistill.config.weights import TokenWeight

DivergenceName = Literal[
    "forward_kl", "reverse_kl", "jeffreys", "jsd", "tvd", "chi2_pearson", "chi2_neyman", "hellinger", "alpha", "renyi", "skew_kl",
    "skew_reverse_kl", "alpha_beta", "adaptive_kl", "todi",
]  # fmt: skip
"""The keys of :data:`agentdistill.losses.DIVERGENCES`, which this module does not import because it needs torch."""


Bound = Annotated[float, Field(ge=0)]


class Measure(Settings):
    """Which divergence between teacher and student. A parameter that is ``None`` has the divergence's own default."""

    divergence: DivergenceName = "reverse_kl"
    alpha: Coefficient | None = None
    """Of ``alpha``, ``renyi``, ``skew_kl``, ``skew_reverse_kl`` and ``alpha_beta``."""
    beta: Coefficient | None = None
    """Of ``jsd`` (the teacher's weight in the mixture), ``alpha_beta`` and ``todi``."""
    mu: Coefficient | None = None
    """Of ``adaptive_kl``: the teacher's mass that makes up the head."""

    def parameters(self) -> dict[str, float | Schedule]:
        """Those that are set."""
        named = {"alpha": self.alpha, "beta": self.beta, "mu": self.mu}
        return {name: value for name, value in named.items() if value is not None}

    def numbers(self) -> dict[str, float]:
        """Likewise, of a term that was resolved at a step."""
        return {name: at(value, 0) for name, value in self.parameters().items()}


class _Term(Settings):
    weight: Coefficient = 1.0
    normaliser: Literal["token", "turn", "sequence", "episode", "constant"] = "token"
    """What the term's sum is divided by, over the global batch: its tokens; its turns or its sequences, each of which is averaged first;
    its episodes, not averaged first, times ``constant`` where that is given; or ``constant``."""
    constant: float | None = Field(default=None, gt=0)
    tokens: Literal["student", "data", "all"] = "student"
    """Whose tokens carry the term: the student's own, those of data (expert, teacher, file), or all sampled tokens."""
    episodes: Literal["all", "wrong", "right"] = "all"
    """Reward-guided masking: only episodes that failed (``wrong``) or succeeded (``right``), by the environment's verdict, or by a return
    of 1 where it gives none."""
    token_weights: tuple[TokenWeight, ...] = ()
    """Multiplied with each other. A token of weight 0 does not count in the normaliser."""

    @model_validator(mode="after")
    def _constant(self) -> Self:
        if self.normaliser != "episode" and (self.normaliser == "constant") != (self.constant is not None):
            raise ValueError("normaliser=constant needs constant=<number>, and only it and normaliser=episode may have one")
        return self


class Target(Settings):
    """What the teacher wants, as a distribution.

    * ``teacher``: p.
    * ``bridge``: softmax((1 − τ) z_q + τ z_p), the student's part without gradient. TAID, arXiv 2501.16937.
    * ``skew``: αp + (1 − α)q, the student's part without gradient.
    * ``geometric``: p^λ ref^(1−λ)/Z against the student as it began. G-OPD, arXiv 2602.12125; AlignDistil, arXiv 2503.02832.
    """

    kind: Literal["teacher", "bridge", "skew", "geometric"] = "teacher"
    amount: Coefficient | None = None
    """τ, α or λ. Needed by all kinds but ``teacher``."""

    @model_validator(mode="after")
    def _amount(self) -> Self:
        if (self.kind == "teacher") != (self.amount is None):
            wants = "takes no amount" if self.kind == "teacher" else "needs amount=<number or schedule>"
            raise ValueError(f"target kind={self.kind} {wants}")
        return self


class DivergenceTerm(_Term, Measure):
    """Pathwise: D(target, student) at each visited prefix, differentiated through the student's distribution."""

    kind: Literal["divergence"] = "divergence"
    route: Literal["full", "topk"] = "full"
    """Over the whole vocabulary, or over the ``k`` most likely tokens of ``support``."""
    k: int | None = Field(default=None, ge=1)
    support: Literal["teacher", "student", "union", "intersection"] = "teacher"
    tail: bool | None = None
    """Of ``topk``: the rest of the mass is one more symbol. ``None``: yes, unless ``renormalise``."""
    renormalise: bool | Literal["teacher"] = False
    """Of ``topk``: both sides, or the teacher alone, are renormalised over the support."""
    form: Literal["pathwise", "score"] = "pathwise"
    """Of ``topk`` without tail and renormalisation: the gradient of the bare sum, or its score-function form (Rethinking OPD)."""
    target: Target = Target()

    @model_validator(mode="after")
    def _route(self) -> Self:
        if self.route == "topk" and self.k is None:
            raise ValueError("route=topk needs k=<number of tokens>")
        only = {
            "k": self.k,
            "support": None if self.support == "teacher" else self.support,
            "tail": self.tail,
            "renormalise": self.renormalise or None,
            "form": self.form if self.form == "score" else None,
        }
        given = [name for name, value in only.items() if value is not None]
        if self.route == "full" and given:
            raise ValueError(f"{given[0]} belongs to route=topk; set route=topk, or leave it out")
        if self.tail and self.renormalise:
            raise ValueError("tail=true and renormalise cannot both be: the rest of the mass is either a symbol or left out")
        if self.form == "score" and (self.tail is not False or self.renormalise):
            raise ValueError("form=score is the bare sum over the support; it needs tail=false and no renormalise")
        return self


class Overlong(Settings):
    """Soft punishment of long episodes: 0 up to ``limit − buffer`` tokens, falling linearly to −1 at ``limit``. DAPO, arXiv 2503.14476."""

    limit: int = Field(ge=1)
    buffer: int = Field(ge=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.buffer > self.limit:
            raise ValueError(f"buffer={self.buffer} is longer than limit={self.limit}")
        return self


class CriticSignal(Settings):
    """C_k, the advantage of a turn.

    * ``anchors``: discounted returns compared among visits of the same state within the group. GiGPO, arXiv 2505.10978.
    * ``turn_rewards``: the environment's rewards of the turns, to the end of the episode. MT-GRPO.
    * ``belief``: V_k − V_{k−1} of the belief in success that the teacher's log-ratio implies. AgentOPSD, arXiv 2608.05987.
    """

    kind: Literal["anchors", "turn_rewards", "belief"] = "anchors"
    gamma: float = Field(default=0.95, ge=0, le=1)
    """Discount between turns."""
    normalise: Literal["none", "group", "group_std"] = "group"
    """Centred, or centred and divided by the standard deviation, among comparable turns of the group."""


class TeacherSignal(Measure):
    """S_t, what the teacher's opinion of a sampled token is worth: A_f(u) less its value at u = 1, and what is to come."""

    form: Literal["score", "minillm", "imitation"] = "score"
    """``score``: A_f(u_t) − Σ_{s>t} discount · f(u_s). ``minillm``: the future log-ratio alone, divided by its length (arXiv 2306.08543).
    ``imitation``: 1 (with a gate: SDAR, arXiv 2605.15155)."""
    gamma_token: float = Field(default=0.0, ge=0, le=1)
    """Discount per student token of what comes later in the same turn. 0: the token answers for itself alone."""
    gamma_turn: float = Field(default=0.0, ge=0, le=1)
    """Discount per turn of what comes in later turns."""
    extrapolation: Coefficient | None = None
    """λ of ln u = λ(ln p − ln ref) − (ln q − ln ref). G-OPD, arXiv 2602.12125. ``None``: 1, and no reference is needed."""
    floor: float | None = Field(default=None, gt=0, lt=1)
    """λ of max(ln u, ln λ/(1 − λ)). REOPOLD, arXiv 2603.11137."""
    future: Literal["sampled", "full"] = "sampled"
    """What later tokens cost: f(u_s) of the sampled one, or D_f over the whole vocabulary, which has the same mean and less variance and
    needs a white-box teacher."""
    baseline: Literal["none", "batch", "batch_std", "group", "closed_form", "value"] = "none"
    """Minus the mean over the batch's tokens; whitened; minus the mean of the siblings' episodes; minus E_q[A_f] at each position, which
    needs a white-box teacher (vOPD, arXiv 2605.07865); or minus what a learned value of the state before the token predicts."""
    weights: tuple[TokenWeight, ...] = ()
    """Of the teacher's part alone."""

    @property
    def dense(self) -> bool:
        """Whether it needs the teacher's whole distributions."""
        return self.future == "full" or self.baseline == "closed_form"


class Mismatch(Settings):
    """Correction of π_old/π_rollout, the distance between trainer and rollout engine: ``tis`` caps it, ``icepop`` zeroes it outside the
    band, ``mis`` masks outside the band; of each token, of the product over the episode, or of its geometric mean."""

    kind: Literal["tis", "icepop", "mis"] = "tis"
    level: Literal["token", "sequence", "geometric"] = "token"
    cap: float = Field(default=2.0, gt=0)
    band: tuple[Bound, Bound] = (0.5, 5.0)

    @model_validator(mode="after")
    def _band(self) -> Self:
        if self.band[0] > self.band[1]:
            raise ValueError(f"band={list(self.band)} holds no ratio; it is [lowest, highest]")
        return self


class PolicyGradientTerm(_Term):
    """Score function: −κ ψ(ρ, Â), with Â = outcome·Z + critic·C + teacher·S unless ``combine`` says otherwise."""

    kind: Literal["policy_gradient"] = "policy_gradient"
    outcome: Coefficient = 0.0
    """Coefficient of the outcome advantage Z."""
    critic: Coefficient = 0.0
    """Coefficient of the turn's advantage C."""
    teacher: Coefficient = 0.0
    """Coefficient of the teacher's signal S; by default the log-ratio ln p − ln q, detached."""
    baseline: Literal["none", "group", "group_std", "rloo", "maxrl", "batch_std", "gae"] = "group_std"
    """Of the outcome: none, minus the group's mean (Dr. GRPO), that divided by the group's standard deviation (GRPO) or mean (MaxRL),
    minus the mean of the others (RLOO), whitened over the whole batch (REINFORCE++), or generalised advantages of a learned value (PPO)."""
    gae: Gae = Gae()
    """Of ``baseline=gae``; its head's settings are also those of ``signal.baseline=value``."""
    flat_groups: Literal["keep", "drop"] = "keep"
    """Groups whose rewards are all equal teach nothing by comparison; ``drop`` takes their tokens out of the term and its count (DAPO)."""
    overlong: Overlong | None = None
    critic_signal: CriticSignal = CriticSignal()
    signal: TeacherSignal = TeacherSignal()
    combine: Combine = Add()
    surrogate: Literal["ppo", "cispo"] = "ppo"
    """min(ρÂ, clip(ρ)Â), or −sg[clip(ρ)] Â ln π_θ (CISPO, arXiv 2506.13585)."""
    ratio: Literal["token", "sequence"] = "token"
    """ρ of each token, or the geometric mean over the episode (GSPO, arXiv 2507.18071)."""
    ppo_clip: tuple[Bound, Bound] | None = (0.2, 0.2)
    """Lower and upper clip range of π_θ/π_old. ``None``: the plain importance-sampled gradient."""
    dual_clip: float | None = Field(default=None, gt=1)
    """c: the loss of a token with Â < 0 is at most c|Â|."""
    teacher_clip: float | None = Field(default=None, gt=0)
    """Bound on |ln p − ln q|. ``None``: unbounded."""
    mismatch_cap: float | None = Field(default=None, gt=0)
    """Shorthand for ``mismatch: {kind: tis, cap: …}``. ``None``: not corrected."""
    mismatch: Mismatch | None = None
    tv_mask: tuple[Bound, Bound] | None = None
    """Drop tokens that moved away from the rollout engine by more than this in probability, down and up. DPPO, arXiv 2602.04879."""
    tv_mask_symmetric: bool = False
    """Drop them whatever the sign of their advantage, not only where they moved as the advantage wants."""
    ratio_penalty: float = Field(default=0.0, ge=0)
    """Coefficient of (ln ρ)²."""

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        if self.mismatch is not None and self.mismatch_cap is not None:
            raise ValueError("mismatch_cap is short for mismatch; set one of the two")
        if self.dual_clip is not None and self.surrogate == "cispo":
            raise ValueError("dual_clip bounds the loss of surrogate=ppo; with cispo it is the weight that ppo_clip bounds; leave it out")
        if self.baseline == "gae" and self.flat_groups == "drop":
            raise ValueError("flat_groups=drop is about siblings with equal outcomes, and baseline=gae compares with none; leave it out")
        return self

    @model_validator(mode="after")
    def _symmetric_mask(self) -> Self:
        if self.tv_mask_symmetric and self.tv_mask is None:
            raise ValueError("tv_mask_symmetric says how tv_mask drops tokens; set tv_mask=[low, high] too")
        return self

    @property
    def correction(self) -> Mismatch | None:
        """What ``mismatch`` or ``mismatch_cap`` says."""
        return Mismatch(cap=self.mismatch_cap) if self.mismatch_cap is not None else self.mismatch


class SupervisedTerm(_Term):
    """Negative log-likelihood."""

    kind: Literal["supervised"] = "supervised"
    tokens: Literal["student", "data", "all"] = "data"


class KLTerm(_Term):
    """Sampled-token estimate of a KL divergence, differentiated as it stands."""

    kind: Literal["kl_estimate"] = "kl_estimate"
    against: Literal["teacher", "reference"]
    estimator: Literal["k2", "k3", "k3_plus"] = "k2"
    """k2 = ½(ln q − ln p)² has the gradient of reverse KL; k3 = u − 1 − ln u has that of forward KL; k3_plus has k3's value and k2's
    gradient."""


Term = Annotated[DivergenceTerm | PolicyGradientTerm | SupervisedTerm | KLTerm, Field(discriminator="kind")]


def learned_values(terms: Mapping[str, Term]) -> dict[str, Gae]:
    """The learned values that policy-gradient terms stand on, by name: ``<term>`` of the outcome, ``<term>/teacher`` of its signal."""
    found: dict[str, Gae] = {}
    for name, term in terms.items():
        if isinstance(term, PolicyGradientTerm):
            if term.baseline == "gae" and not is_zero(term.outcome):
                found[name] = term.gae
            if term.signal.baseline == "value" and not is_zero(term.teacher):
                found[f"{name}/teacher"] = term.gae
    return found
