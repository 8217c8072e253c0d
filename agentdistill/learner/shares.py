"""How a step's gradient shares itself among the terms.

At the logits of one token, a sampled-token loss pushes with |∂ℓ/∂ln q(y)| · ‖1[y] − q‖ and a divergence with ‖∂D/∂z‖, weights included. A
term's share is its part of the sum of these norms over all terms and tokens: what it would move by itself, before terms cancel or agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from agentdistill.learner.ranks import Ranks

if TYPE_CHECKING:
    from agentdistill.learner.report import Measured

Values = npt.NDArray[np.float64]
OWN = ("norm/", "slope/", "probs_norm")
"""Arrays of the pass that only this module reads."""


def gradient_norms(arrays: Mapping[str, Values], name: str) -> Values | None:
    """‖∂/∂z‖ of one term at each position, [N], NaN where it has none. ``None``: it was not measured."""
    if (norm := arrays.get(f"norm/{name}")) is not None:
        return norm
    if (slope := arrays.get(f"slope/{name}")) is None:
        return None
    chosen = np.exp(arrays["student_logprobs"])
    return np.asarray(slope * np.sqrt(np.maximum(1 - 2 * chosen + arrays["probs_norm"] ** 2, 0.0)))


def gradient_shares(measured: Sequence[Measured], terms: Sequence[str], ranks: Ranks) -> dict[str, float]:
    """Each term's share, within [0, 1]; they sum to 1. Empty where there is one term only, or no gradient at all."""
    if len(terms) < 2:
        return {}
    norms = {name: [norm for one in measured if (norm := gradient_norms(one.arrays, name)) is not None] for name in terms}
    sums = ranks.sum([float(sum(np.nansum(norm) for norm in norms[name])) for name in terms])
    total = sum(sums)
    return {name: value / total for name, value in zip(terms, sums, strict=True)} if total > 0 and np.isfinite(total) else {}
