"""Refused before step 1: a term whose gradient cannot depend on its signal, by construction.

A batch in which an advantage happens to be zero is no error: that is a metric (``credit/groups_without_advantage/share``).
"""

from __future__ import annotations

from agentdistill.config.combine import Add, Gate, Route, Scale
from agentdistill.config.schedule import Schedule, is_zero
from agentdistill.config.schema import DivergenceTerm, KLTerm, MethodConfig, PolicyGradientTerm, Term
from agentdistill.config.terms import Measure
from agentdistill.config.weights import DenseWeight
from agentdistill.errors import ConfigError
from agentdistill.losses.divergences import lookup
from agentdistill.methods.misfits import extremes, misfits

OF_A_GROUP = ("group", "group_std", "rloo", "maxrl")
"""Baselines that compare an episode with its siblings."""


def refuse_dead_terms(config: MethodConfig) -> None:
    """Raise :class:`ConfigError` for the first term that could not move the weights whatever its signal says."""
    if not config.terms:
        raise ConfigError(f"method {config.name!r} has no terms; give it at least one under method.terms")
    for name, term in config.terms.items():
        where = f"method.terms.{name}"
        if is_zero(term.weight):
            raise ConfigError(f"{where}.weight is 0, so the term cannot train anything; remove the term or give it a weight")
        if isinstance(term, PolicyGradientTerm):
            _refuse_dead_policy_gradient(where, term, config)
        if isinstance(term, DivergenceTerm):
            check_measure(where, term)
            if term.target.amount is not None and is_zero(term.target.amount):
                other = "the reference" if term.target.kind == "geometric" else "the student itself"
                raise ConfigError(f"{where}.target.amount is 0, so the target is {other} and the teacher is never heard; give it an amount")
        _refuse_tokens_nobody_plays(where, term, config)
        _refuse_weights_out_of_place(where, term)
        for sentence in misfits(name, term, config):
            raise ConfigError(sentence)


def check_measure(where: str, measure: Measure) -> None:
    """Raise :class:`ConfigError` unless the divergence takes the parameters, at both ends of their schedules."""
    for parameters in _ends(measure.parameters()):
        try:
            lookup(measure.divergence).parameters(parameters)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error


def _ends(parameters: dict[str, float | Schedule]) -> list[dict[str, float]]:
    """The parameters as numbers, one of them at a time at each value that it may reach."""
    begin = {name: extremes(value)[0] for name, value in parameters.items()}
    return [begin, *({**begin, name: reached} for name, value in parameters.items() for reached in extremes(value))]


def _refuse_dead_policy_gradient(where: str, term: PolicyGradientTerm, config: MethodConfig) -> None:
    heard = {"outcome": term.outcome, "critic": term.critic, "teacher": term.teacher}
    if all(is_zero(coefficient) for coefficient in heard.values()):
        raise ConfigError(
            f"{where} has neither an outcome nor a teacher nor a critic coefficient, so its advantage is always 0; set {where}.teacher=1"
        )
    if not is_zero(term.outcome) and term.baseline in OF_A_GROUP and config.group_size < 2:
        raise ConfigError(
            f"{where} compares an episode with its group, but method.group_size is {config.group_size}, so the advantage is always 0; "
            "set method.group_size to 2 or more"
        )
    if not is_zero(term.critic) and term.critic_signal.kind == "anchors" and config.group_size < 2:
        raise ConfigError(
            f"{where} compares turns that begin in the same state within a group, but method.group_size is {config.group_size}; "
            "set method.group_size to 2 or more"
        )
    if term.tokens != "student":
        raise ConfigError(f"{where}.tokens={term.tokens!r}: a policy gradient needs tokens that the student sampled; use 'student'")
    _refuse_deaf_combination(where, term, config)


def _refuse_deaf_combination(where: str, term: PolicyGradientTerm, config: MethodConfig) -> None:
    """Gates, scales, routes and signals that have nothing to act on."""
    combine = term.combine
    silent = {part for part in ("outcome", "critic", "teacher") if is_zero(getattr(term, part))}
    if not isinstance(combine, Add) and "teacher" in silent:
        raise ConfigError(f"{where}.combine is {combine.mode}, and the teacher's coefficient is 0; set {where}.teacher=1 or mode=add")
    if isinstance(combine, Scale) and {"outcome", "critic"} <= silent:
        raise ConfigError(f"{where}.combine scales the outcome, whose coefficient is 0; set {where}.outcome=1")
    if isinstance(combine, Gate) and combine.by in ("agreement", "outcome") and "outcome" in silent:
        raise ConfigError(f"{where}.combine gates the teacher by the outcome, whose coefficient is 0; set {where}.outcome=1")
    if isinstance(combine, Route) and {combine.right, combine.wrong} & silent:
        part = next(part for part in (combine.right, combine.wrong) if part in silent)
        raise ConfigError(f"{where}.combine routes tokens to the {part}, whose coefficient is 0; set {where}.{part}=1")
    if "teacher" in silent:
        return
    signal = term.signal
    check_measure(f"{where}.signal", signal)
    if signal.divergence in ("renyi", "adaptive_kl"):
        raise ConfigError(
            f"{where}.signal.divergence={signal.divergence} has no advantage of a sampled token alone; choose another one, or a divergence "
            "term over the whole vocabulary"
        )
    heard = isinstance(combine, Gate) and combine.by == "sigmoid"
    if signal.form == "imitation" and not heard:
        raise ConfigError(
            f"{where}.signal.form=imitation is 1 at every token, so that the teacher is not heard at all; "
            f"set {where}.combine={{mode: gate, by: sigmoid}} or form=score"
        )
    if signal.baseline == "closed_form" and (signal.form != "score" or signal.extrapolation is not None or signal.floor is not None):
        raise ConfigError(
            f"{where}.signal.baseline=closed_form is the mean of A_f(u) itself, and form, extrapolation or floor make something else of "
            "it; leave those out or choose another baseline"
        )
    if signal.baseline == "group" and config.group_size < 2:
        raise ConfigError(f"{where}.signal.baseline=group compares with siblings, and method.group_size is {config.group_size}; raise it")
    if signal.form == "minillm" and not (signal.gamma_token or signal.gamma_turn):
        raise ConfigError(f"{where}.signal.form=minillm counts what is to come, which is discounted by 0; set {where}.signal.gamma_token")


def _refuse_tokens_nobody_plays(where: str, term: Term, config: MethodConfig) -> None:
    sampler = config.sampler
    data = sampler.expert + sampler.teacher
    if term.tokens == "student" and is_zero(sampler.student):
        raise ConfigError(f"{where} trains on the student's tokens, but method.sampler.student is 0; raise it or set {where}.tokens=data")
    if term.tokens == "data" and data == 0:
        raise ConfigError(f"{where} trains on data, but nobody makes any; set method.sampler.expert or method.sampler.teacher")


def _refuse_weights_out_of_place(where: str, term: Term) -> None:
    """Some weights need what a term does not compute."""
    signal = term.signal.weights if isinstance(term, PolicyGradientTerm) else ()
    dense = [weight.kind for weight in signal if isinstance(weight, DenseWeight)]
    if not isinstance(term, DivergenceTerm):
        dense += [weight.kind for weight in term.token_weights if isinstance(weight, DenseWeight)]
    if dense:
        raise ConfigError(f"{where} weighs tokens by {dense[0]}, which only a divergence term computes; move the weight to one")
    if isinstance(term, KLTerm) and term.against == "reference" and any(weight.hears_teacher for weight in term.token_weights):
        raise ConfigError(f"{where} is about the reference and weighs tokens by what the teacher says of them; use another weight")
