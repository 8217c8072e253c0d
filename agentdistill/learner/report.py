"""What one batch did: loss per component, metrics for the run, and per-token arrays for the viewer.

Metrics are named ``area/what/stat``. A mean is over the tokens where its quantity exists; a quantity that exists nowhere in the batch
has no metric, and is not zero.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from agentdistill.config.schema import DivergenceTerm, PolicyGradientTerm, Term, at
from agentdistill.config.terms import learned_values
from agentdistill.learner.packing import Index, MicroBatch
from agentdistill.learner.ranks import Ranks
from agentdistill.learner.shares import OWN, gradient_shares
from agentdistill.types import AUTHORS, Annotation

Values = npt.NDArray[np.float64]
STUDENT = AUTHORS.index("student")


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What the optimizer did with the accumulated gradient."""

    grad_norm: float
    """Before clipping; NaN or infinite where the step was skipped for it."""
    skipped: bool
    """True: a loss or gradient was not finite, or there was nothing to learn from; weights and optimizer are as before."""
    lr: float
    clipped: bool = False
    """The gradient was longer than ``clip_norm`` and was scaled down to it."""
    nonfinite_in_a_row: int = 0
    episodes: tuple[str, ...] = ()
    """Of a non-finite step: the episodes whose loss was not finite; all of the batch where only the gradient was not."""

    @property
    def metrics(self) -> dict[str, float]:
        return {
            "optim/grad_norm": self.grad_norm,
            "optim/lr": self.lr,
            "optim/skipped": float(self.skipped),
            "optim/clipped": float(self.clipped),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """One micro-batch and the per-position arrays [N] that the pass made of it."""

    micro: MicroBatch
    arrays: Mapping[str, Values]

    @classmethod
    def of(cls, micro: MicroBatch, arrays: Mapping[str, Values]) -> Measured:
        """Without what the policy says at positions that no component carries, and only a learned value looks at."""
        idle = ~micro.carried
        blanked = {name: np.where(idle, np.nan, arrays[name]) for name in ("student_logprobs", "entropy") if name in arrays and idle.any()}
        return cls(micro=micro, arrays={**arrays, **blanked})


@dataclass(frozen=True, kw_only=True, eq=False)
class LossReport:
    """One accumulation."""

    total: float
    """Σ_c coefficient_c · loss_c: what was differentiated."""
    components: dict[str, float]
    """loss_c = (1/N_c) Σ w ℓ, before its coefficient; ``value/<name>`` of each learned value."""
    metrics: dict[str, float]
    measured: tuple[Measured, ...] = field(repr=False)

    def token_arrays(self, episodes: Collection[str] | None = None) -> dict[tuple[str, int], dict[str, Values]]:
        """Per (episode, segment): arrays of the segment's length L, NaN where nothing was computed.

        Names: ``student_logprobs``, ``entropy``, ``divergence`` (full where a term computed it, else ln q − ln p of the sampled
        token), ``loss/<component>`` (ℓ, neither weighted nor normalised), ``ratio/<component>``, ``clipped/<component>``.
        """
        found: dict[tuple[str, int], dict[str, Values]] = {}
        for one in self.measured:
            for row, sample in enumerate(one.micro.samples):
                if episodes is not None and sample.episode not in episodes:
                    continue
                here = one.micro.rows == row
                arrays = found.setdefault((sample.episode, sample.segment), {})
                for name, values in one.arrays.items():
                    target = arrays.setdefault(name, np.full(len(sample), np.nan))
                    target[one.micro.cols[here]] = values[here]
        return found

    def annotations(self, step: int, episodes: Collection[str] | None = None) -> list[Annotation]:
        """:meth:`token_arrays` as records for the store."""
        return [
            Annotation(
                step=step, episode=episode, segment=segment, arrays={name: tuple(map(float, values)) for name, values in arrays.items()}
            )
            for (episode, segment), arrays in self.token_arrays(episodes).items()
        ]

    def nonfinite_episodes(self) -> tuple[str, ...]:
        """Episodes with a token whose loss is NaN or infinite, in the order of the batch."""
        found: dict[str, None] = {}
        for one in self.measured:
            weighted = {name: _weighted(one, name) for name in one.micro.components}
            for name, index in _covered(one.micro).items():
                bad = index[~np.isfinite(weighted.get(name, one.arrays[f"loss/{name}"][index]))]
                found.update({one.micro.samples[row].episode: None for row in one.micro.rows[bad]})
        return tuple(found)


def make_report(measured: Sequence[Measured], terms: Mapping[str, Term], step: int, ranks: Ranks) -> LossReport:
    """Sum the components over the micro-batches, and over the ranks, and take the metrics."""
    coefficients = {name: at(term.weight, step) for name, term in terms.items()}
    active = {name: terms[name] for name, coefficient in coefficients.items() if coefficient != 0}
    coefficients |= {f"value/{name}": gae.value_coefficient for name, gae in learned_values(active).items()}
    components = {name: 0.0 for name, coefficient in coefficients.items() if coefficient != 0}
    for one in measured:
        for name in one.micro.components:
            components[name] += float(_weighted(one, name).sum())
        for name, regression in one.micro.values.items():
            components[f"value/{name}"] += regression.weight * float(one.arrays[f"loss/value/{name}"][regression.index].sum())
    components = dict(zip(components, ranks.sum(list(components.values())), strict=True))
    total = sum(coefficients[name] * value for name, value in components.items())
    return LossReport(
        total=total,
        components=components,
        metrics={"loss/total": total, **{f"loss/{name}": value for name, value in components.items()}, **_metrics(measured, terms, ranks)},
        measured=tuple(Measured(micro=one.micro, arrays=_for_viewer(one, terms)) for one in measured),
    )


def _covered(micro: MicroBatch) -> dict[str, Index]:
    """The positions of each component and of each learned value."""
    values = {f"value/{name}": regression.index for name, regression in micro.values.items()}
    return {name: component.index for name, component in micro.components.items()} | values


def _weighted(one: Measured, name: str) -> Values:
    """w ℓ / N_c of a component's tokens, with the weights that only whole distributions tell; what they silence may be infinite."""
    component = one.micro.components[name]
    loss, weights = one.arrays[f"loss/{name}"][component.index], component.weights
    if (dense := one.arrays.get(f"weight/{name}")) is not None:
        weights = weights * dense[component.index]
    return np.multiply(weights, loss, out=np.zeros_like(loss), where=weights != 0)


def _log_ratio(one: Measured) -> Values:
    """ln q − ln p of each token, from the teacher's review or from its dense target; NaN where there is neither."""
    reviewed = _gather(one, "teacher_logprobs")
    teacher = np.where(np.isnan(reviewed), one.arrays.get("teacher_logprobs", np.nan), reviewed)
    return np.asarray(one.arrays["student_logprobs"] - teacher)


def _for_viewer(one: Measured, terms: Mapping[str, Term]) -> dict[str, Values]:
    """The arrays with ``divergence`` added; the teacher's log-probabilities are left out, because the store has its review."""
    arrays = {name: values for name, values in one.arrays.items() if name != "teacher_logprobs" and not name.startswith(OWN)}
    divergence = _log_ratio(one)
    for name, term in terms.items():
        if isinstance(term, DivergenceTerm) and f"loss/{name}" in arrays:
            full = arrays[f"loss/{name}"]
            divergence = np.where(np.isnan(full), divergence, full)
    return arrays if np.isnan(divergence).all() else {**arrays, "divergence": divergence}


class _Figures:
    """Figures of a batch, in the order in which they are taken: the same on every rank, whatever it has of the batch."""

    def __init__(self) -> None:
        self._counts: dict[str, float] = {}
        self._means: list[tuple[str, float, float]] = []
        self._tops: dict[str, float] = {}

    def count(self, name: str, value: float) -> None:
        self._counts[name] = value

    def mean(self, name: str, values: Values) -> None:
        """Over those that are known."""
        known = values[~np.isnan(values)]
        with np.errstate(invalid="ignore"):  # infinities of both signs; such a step is skipped
            self._means.append((name, float(known.sum()), float(len(known))))

    def top(self, name: str, values: Values) -> None:
        known = values[~np.isnan(values)]
        self._tops[name] = float(known.max()) if len(known) else -np.inf

    def over(self, ranks: Ranks) -> dict[str, float]:
        """By name. A mean or maximum of nothing is left out, and does not hide an earlier figure of its name."""
        found = dict(zip(self._counts, ranks.sum(list(self._counts.values())), strict=True))
        totals, numbers = ranks.sum([total for _, total, _ in self._means]), ranks.sum([number for *_, number in self._means])
        for (name, *_), total, number in zip(self._means, totals, numbers, strict=True):
            if number:
                found[name] = total / number
        tops = zip(self._tops, ranks.max(list(self._tops.values())), strict=True)
        return found | {name: value for name, value in tops if value != -np.inf}


def _metrics(measured: Sequence[Measured], terms: Mapping[str, Term], ranks: Ranks) -> dict[str, float]:
    figures = _Figures()
    figures.count("tokens/trained", float(sum(np.count_nonzero(one.micro.carried) for one in measured)))
    figures.count("tokens/forward", float(sum(one.micro.input_ids.size for one in measured)))
    students = _join(measured, lambda one: _gather(one, "author"))
    figures.mean("policy/entropy", _array(measured, "entropy"))
    sampled = _join(measured, _log_ratio)
    figures.mean("divergence/reverse_kl", sampled[(students == STUDENT) & np.isfinite(sampled)])
    for name, term in terms.items():
        carried = sum(len(one.micro.components[name].index) for one in measured if name in one.micro.components)
        figures.count(f"tokens/{name}", float(carried))
        if isinstance(term, DivergenceTerm) and term.route == "full" and term.target.kind == "teacher":
            figures.mean(f"divergence/{term.divergence}", _array(measured, f"loss/{name}"))
    gradients = [name for name, term in terms.items() if isinstance(term, PolicyGradientTerm)]
    ratios, clipped, mismatch = (
        np.concatenate([_array(measured, f"{what}/{name}") for name in gradients] or [np.zeros(0)])
        for what in ("ratio", "clipped", "mismatch")
    )
    drift = _join(measured, _drift)[students == STUDENT]
    for name, values in (("policy/ratio", ratios), ("mismatch/ratio", mismatch)):
        figures.top(f"{name}/max", values)
        figures.mean(f"{name}/mean", values)
    figures.mean("policy/clip_fraction", clipped)
    figures.mean("mismatch/logprob/mean_abs", np.abs(drift))
    figures.top("mismatch/logprob/max_abs", np.abs(drift))
    figures.mean("mismatch/kl", np.expm1(drift) - drift)  # k3: tokens come from the rollout engine
    metrics = figures.over(ranks)
    metrics |= {f"gradient/share/{name}": share for name, share in gradient_shares(measured, list(terms), ranks).items()}
    if (explained := _explained_variance(measured, list(learned_values(terms)), ranks)) is not None:
        metrics["value/explained_variance"] = explained
    return metrics


def _explained_variance(measured: Sequence[Measured], names: Sequence[str], ranks: Ranks) -> float | None:
    """1 − Σ Var(target − V) / Σ Var(target), sums over the learned values. ``None``: nothing varies."""
    left = total = 0.0
    for name in names:
        some = [(one, one.micro.values[name]) for one in measured if name in one.micro.values]
        targets = np.concatenate([np.zeros(0), *(regression.targets for _, regression in some)])
        said = np.concatenate([np.zeros(0), *(one.arrays[f"value/{name}"][regression.index] for one, regression in some)])
        count, *moments = ranks.sum([float(len(said)), *_moments(targets), *_moments(targets - said)])
        if count:
            varied = moments[1] - moments[0] ** 2 / count
            total += varied if varied > 1e-12 * moments[1] else 0.0  # else it is rounding
            left += moments[3] - moments[2] ** 2 / count
    return 1 - left / total if total > 0 else None


def _moments(values: Values) -> tuple[float, float]:
    return float(values.sum()), float((values**2).sum())


def _drift(one: Measured) -> Values:
    """Trainer minus rollout engine, ln π(y): of the old policy where it was scored, else of the current one."""
    old = _gather(one, "old_logprobs")
    return np.where(np.isnan(old), one.arrays["student_logprobs"], old) - _gather(one, "rollout_logprobs")


def _gather(one: Measured, stream: str) -> Values:
    return np.asarray(one.micro.gather([getattr(sample, stream) for sample in one.micro.samples]), np.float64)


def _join(measured: Sequence[Measured], make: Callable[[Measured], Values]) -> Values:
    return np.concatenate([make(one) for one in measured] or [np.zeros(0)])


def _array(measured: Sequence[Measured], name: str) -> Values:
    return _join(measured, lambda one: one.arrays.get(name, np.full(len(one.micro), np.nan)))
