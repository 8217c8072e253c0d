"""Choices that do not go together, or numbers outside their range: found before step 1 and told in a sentence each.

:mod:`agentdistill.methods.refuse` has the terms that could not train at all; here are those that would train something else than they say.
"""

from __future__ import annotations

from collections.abc import Iterator

from agentdistill.config.combine import Scale
from agentdistill.config.method import schedules
from agentdistill.config.schedule import Adaptive, Schedule, at, is_zero
from agentdistill.config.schema import DivergenceTerm, MethodConfig, PolicyGradientTerm, Term
from agentdistill.config.terms import Target
from agentdistill.errors import unknown

FAR = 10**9
"""A step that no run reaches."""
AMOUNTS = {"bridge": (0.0, 1.0), "skew": (0.0, 1.0), "geometric": (0.0, float("inf"))}
"""Range of a target's amount, by kind."""


def extremes(value: float | Schedule) -> list[float]:
    """The values that a coefficient may reach: where it begins and ends, its points, and how far one may go that answers to a metric."""
    if not isinstance(value, Schedule):
        return [value]
    named = [getattr(value, name, None) for name in ("start", "end", "limit", "value")]
    found = [float(each) for each in named if isinstance(each, int | float)]
    return [*found, *getattr(value, "points", {}).values(), at(value, FAR)]


def misfits(name: str, term: Term, config: MethodConfig) -> Iterator[str]:
    """One sentence for each."""
    where = f"method.terms.{name}"
    yield from _watches(where, term, config)
    if isinstance(term, DivergenceTerm):
        yield from _target(where, term.target)
    if isinstance(term, PolicyGradientTerm):
        yield from _outcome(where, term)
        yield from _critic(where, term, config)
        if not is_zero(term.teacher):
            yield from _signal(where, term)
        if term.ratio == "sequence" and term.token_weights:
            yield f"{where}.ratio=sequence is one ratio for a whole episode, and token_weights leave tokens out of it; use ratio=token"


def _watches(where: str, term: Term, config: MethodConfig) -> Iterator[str]:
    for path, schedule in schedules(term).items():
        if isinstance(schedule, Adaptive) and schedule.watch.startswith("loss/"):
            watched, known = schedule.watch.removeprefix("loss/"), ["total", *config.terms]
            if watched not in known:
                yield f"{where}.{path} watches {schedule.watch!r}: {unknown('loss', watched, known)}"


def _target(where: str, target: Target) -> Iterator[str]:
    if target.amount is None:
        return
    low, high = AMOUNTS[target.kind]
    for value in extremes(target.amount):
        if not low <= value <= high:
            wanted = f"between {low:g} and {high:g}" if high < float("inf") else f"{low:g} or more"
            yield f"{where}.target.amount reaches {value:g}, and that of a {target.kind} target is {wanted}"
            return


def _outcome(where: str, term: PolicyGradientTerm) -> Iterator[str]:
    if term.flat_groups == "drop" and not is_zero(term.outcome):
        if term.baseline in ("none", "batch_std"):
            yield f"{where}.flat_groups=drop is about comparing siblings, which baseline={term.baseline} does not; use flat_groups=keep"
        if not (is_zero(term.teacher) and is_zero(term.critic)):
            yield (
                f"{where}.flat_groups=drop would silence teacher and critic wherever outcomes are equal; give them a term of their own, "
                "or use flat_groups=keep"
            )
    if term.baseline == "maxrl" and term.overlong is not None:
        yield f"{where}.baseline=maxrl divides by the mean return, which overlong makes negative; use another baseline or no overlong"


def _critic(where: str, term: PolicyGradientTerm, config: MethodConfig) -> Iterator[str]:
    if is_zero(term.critic) or config.group_size > 1:
        return
    signal = term.critic_signal
    if signal.kind == "belief" or (signal.kind == "turn_rewards" and signal.normalise != "none"):
        yield f"{where}.critic_signal.kind={signal.kind} compares siblings, but method.group_size is {config.group_size}; raise it"


def _signal(where: str, term: PolicyGradientTerm) -> Iterator[str]:
    signal = term.signal
    if signal.future == "full":
        if term.teacher_clip is not None or signal.floor is not None or signal.extrapolation is not None:
            yield (
                f"{where}.signal.future=full is the divergence from the teacher itself, and teacher_clip, floor or extrapolation change "
                "what a token is worth; use future=sampled, or leave those out"
            )
        if not (signal.gamma_token or signal.gamma_turn):
            yield f"{where}.signal.future=full is about later tokens, which are discounted by 0; set gamma_token, or future=sampled"
    if signal.form == "minillm" and signal.divergence != "reverse_kl":
        yield f"{where}.signal.form=minillm is made of log-ratios, and divergence={signal.divergence} has others; use divergence=reverse_kl"
    if signal.form == "imitation" and signal.baseline != "none":
        yield f"{where}.signal.form=imitation is 1 everywhere, and baseline={signal.baseline} takes that away; use baseline=none"
    if signal.extrapolation is not None and is_zero(signal.extrapolation):
        yield f"{where}.signal.extrapolation is 0, so the target is the reference and the teacher is never heard; give it an amount"
    if isinstance(term.combine, Scale) and term.combine.form == "ratio":
        outside = [value for value in extremes(term.teacher) if not 0 <= value <= 1]
        if outside:
            yield f"{where}.teacher is the share λ of combine=scale and reaches {outside[0]:g}; keep it within 0 and 1"
