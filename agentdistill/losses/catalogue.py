"""Every divergence by name: formula, paper, parameters, and how its advantage behaves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from agentdistill.errors import ConfigError, unknown
from agentdistill.losses import families
from agentdistill.losses.families import Parts
from agentdistill.losses.parameters import Parameter


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """One entry of :data:`DIVERGENCES`."""

    name: str
    formula: str
    paper: str
    takes: Mapping[str, Parameter] = field(default_factory=dict)
    """Its parameters."""
    bounded: str
    """The range of the advantage A over u = p/q: where it is unbounded, a single token can dominate a batch."""
    character: str
    """What descending it does to the student."""
    parts: Callable[..., Parts]
    """(sides, **parameters) -> value, pull and constant."""
    overflows: bool = False
    """Whether powers of u occur, which can leave the range of floating point while the value does not."""
    sign: Callable[..., bool] = lambda **_: True
    """(**parameters): whether it cannot be negative."""

    @property
    def defaults(self) -> dict[str, float]:
        """Its parameters' defaults."""
        return {name: parameter.default for name, parameter in self.takes.items()}

    def parameters(self, given: Mapping[str, float]) -> dict[str, float]:
        """``defaults`` overridden by ``given``.

        Raises:
            ConfigError: a parameter that this divergence does not have, or a value outside its range.
        """
        owner = f"divergence {self.name!r}"
        for key in given:
            if key not in self.takes:
                raise ConfigError(f"{owner}: {unknown('parameter', key, self.takes)}")
        return {name: parameter.check(owner, name, given.get(name, parameter.default)) for name, parameter in self.takes.items()}


_F_DISTILL = "f-Divergence Minimization for Sequence-Level Knowledge Distillation, Wen et al., arXiv 2307.15190"
_F_GAN = "f-GAN: Training Generative Neural Samplers using Variational Divergence Minimization, Nowozin et al., arXiv 1606.00709"
_DISTILLM = "DistiLLM: Towards Streamlined Distillation for Large Language Models, Ko et al., arXiv 2402.03898"

_SKEW = Parameter(default=0.1, low=0, high=1, closed="low", meaning="share of the first side in the mixture; 0 is the plain KL")

_ENTRIES = (
    Divergence(
        name="forward_kl",
        formula="Σ p ln(p/q)",
        paper="Distilling the Knowledge in a Neural Network, Hinton et al., arXiv 1503.02531",
        bounded="[0, ∞), grows as u: heavy-tailed where the teacher likes a token far more than the student",
        character="covering",
        parts=families.forward_kl,
    ),
    Divergence(
        name="reverse_kl",
        formula="Σ q ln(q/p)",
        paper="MiniLLM, Gu et al., arXiv 2306.08543",
        bounded="(−∞, ∞), logarithmic: very negative where the teacher has next to no mass",
        character="seeking",
        parts=families.reverse_kl,
    ),
    Divergence(
        name="jeffreys",
        formula="Σ (p − q) ln(p/q)",
        paper=_F_GAN,
        bounded="(−∞, ∞), as u above and as ln u below",
        character="covering and seeking",
        parts=families.jeffreys,
    ),
    Divergence(
        name="jsd",
        formula="β Σ p ln(p/M) + (1−β) Σ q ln(q/M),  M = βp + (1−β)q",
        paper="On-Policy Distillation of Language Models (GKD), Agarwal et al., arXiv 2306.13649, Eq. 1",
        takes={
            "beta": Parameter(
                default=0.5,
                low=0,
                high=1,
                meaning="weight of the teacher; jsd/β tends to forward_kl as β → 0, jsd/(1−β) to reverse_kl as β → 1",
                note="the limits are forward_kl and reverse_kl, by name, on their own scale",
            )
        },
        bounded="[(1−β) ln(1−β), ∞), logarithmic",
        character="between covering and seeking",
        parts=families.jsd,
    ),
    Divergence(
        name="tvd",
        formula="½ Σ |p − q|",
        paper=_F_DISTILL,
        bounded="[−½, ½], the sign alone",
        character="robust",
        parts=families.tvd,
    ),
    Divergence(
        name="chi2_pearson",
        formula="Σ (p − q)²/q",
        paper=_F_GAN,
        bounded="[−1, ∞), grows as u²",
        character="strongly covering",
        parts=families.chi2_pearson,
        overflows=True,
    ),
    Divergence(
        name="chi2_neyman",
        formula="Σ (p − q)²/p",
        paper=_F_GAN,
        bounded="(−∞, 2), falls as −1/u",
        character="strongly seeking",
        parts=families.chi2_neyman,
        overflows=True,
    ),
    Divergence(
        name="hellinger",
        formula="½ Σ (√p − √q)²",
        paper=_F_GAN,
        bounded="[−½, ∞), grows as √u",
        character="between covering and seeking",
        parts=families.hellinger,
    ),
    Divergence(
        name="alpha",
        formula="Σ (p^α q^{1−α} − α p − (1−α) q) / (α(α−1))",
        paper="Black-Box α-Divergence Minimization, Hernández-Lobato et al., arXiv 1511.03243",
        takes={"alpha": Parameter(default=0.5, meaning="1 is forward_kl, 0 is reverse_kl; both limits are reached continuously")},
        bounded="[−1/α, ∞) for α > 0, (−∞, 1/|α|] for α < 0",
        character="from seeking (small α) to covering (large α)",
        parts=families.alpha,
        overflows=True,
    ),
    Divergence(
        name="renyi",
        formula="ln(Σ p^α q^{1−α}) / (α−1)",
        paper="Rényi Divergence and Kullback-Leibler Divergence, van Erven and Harremoës, arXiv 1206.2459",
        takes={
            "alpha": Parameter(
                default=0.5,
                low=0,
                high=math.inf,
                closed="high",
                meaning="the order; 1 is forward_kl, inf is ln max(p/q)",
            )
        },
        bounded="[0, ∞), grows as u^α; its mean under the student is 1",
        character="from seeking (small α) to covering (large α)",
        parts=families.renyi,
    ),
    Divergence(
        name="skew_kl",
        formula="Σ p ln(p/M),  M = αp + (1−α)q",
        paper=_DISTILLM,
        takes={"alpha": _SKEW},
        bounded="[0, (1−α)/α)",
        character="covering, capped",
        parts=families.skew_kl,
    ),
    Divergence(
        name="skew_reverse_kl",
        formula="Σ q ln(q/M),  M = (1−α)p + αq",
        paper=_DISTILLM,
        takes={"alpha": _SKEW},
        bounded="[ln α, ∞), logarithmic",
        character="seeking, floored",
        parts=families.skew_reverse_kl,
    ),
    Divergence(
        name="alpha_beta",
        formula="−Σ (p^α q^β − α/(α+β) p^{α+β} − β/(α+β) q^{α+β}) / (αβ)",
        paper="ABKD: Pursuing a Proper Allocation of the Probability Mass in Knowledge Distillation via α-β-Divergence, "
        "Wang et al., arXiv 2505.04560",
        takes={
            "alpha": Parameter(default=0.5, meaning="hardness: how much larger ratios p/q count; (1, 0) is forward_kl"),
            "beta": Parameter(default=0.5, meaning="confidence: how much likelier tokens of the student count; (0, 1) is reverse_kl"),
        },
        bounded="bounded if α > 0 and β ≥ 1",
        character="hardness and confidence apart",
        parts=families.alpha_beta,
        overflows=True,
    ),
    Divergence(
        name="adaptive_kl",
        formula="(g_h Σ p ln(p/q) + g_t Σ q ln(q/p)) / (g_h + g_t),  g = Σ |p − q| over the teacher's head and tail",
        paper="Rethinking Kullback-Leibler Divergence in Knowledge Distillation for Large Language Models, Wu et al., arXiv 2404.02657",
        takes={
            "mu": Parameter(
                default=0.5,
                low=0,
                high=1,
                closed="high",
                meaning="mass of the head: its likeliest token, and those down to mass μ",
            )
        },
        bounded="(−∞, ∞), as u above and as ln u below",
        character="covering where the head is off, seeking where the tail is",
        parts=families.adaptive_kl,
    ),
    Divergence(
        name="todi",
        formula="Σ a p ln(p/q) + (1−a) q ln(q/p),  a = σ(β ln(p/q)) at each token, without gradient",
        paper="ToDi: Token-wise Distillation via Fine-Grained Divergence Control, Jung et al., arXiv 2505.16297",
        takes={"beta": Parameter(default=1.0, meaning="sharpness of the choice; 0 is half of jeffreys; below −1 the sum can be negative")},
        bounded="(−∞, ∞); for β > 0 as u above and as ln u below",
        character="pushes up as forward_kl, down as reverse_kl",
        parts=families.todi,
        sign=lambda beta: beta >= -1,
    ),
)

DIVERGENCES: Mapping[str, Divergence] = MappingProxyType({entry.name: entry for entry in _ENTRIES})
"""Every divergence by name. The weight β of ``jsd`` is on the teacher's side."""


def lookup(name: str) -> Divergence:
    """The entry called ``name``.

    Raises:
        ConfigError: there is none; the message names those that there are.
    """
    if name not in DIVERGENCES:
        raise ConfigError(unknown("divergence", name, DIVERGENCES))
    return DIVERGENCES[name]
