"""A method in words and formulas, from its configuration: for the command line, the docs and the model card.

p teacher, q student, y the sampled token, u = p/q; sg: no gradient.
"""

from __future__ import annotations

from collections.abc import Mapping

from agentdistill.config.combine import Gate, Route, Scale
from agentdistill.config.schedule import Schedule, is_zero
from agentdistill.config.schema import DivergenceTerm, KLTerm, MethodConfig, PolicyGradientTerm, Term
from agentdistill.config.terms import Measure, Target
from agentdistill.config.weights import TokenWeight
from agentdistill.losses.divergences import lookup
from agentdistill.methods.objective import needs_of

ESTIMATES = {"k2": "½ (ln q − ln {p})²", "k3": "u − 1 − ln u, u = {p}/q", "k3_plus": "value of k3, gradient of k2, u = {p}/q"}
OUTCOMES = {
    "none": "R",
    "group": "R − mean(R)",
    "group_std": "(R − mean(R)) / std(R)",
    "rloo": "R − mean of the others' R",
    "maxrl": "(R − mean(R)) / mean(R)",
    "batch_std": "(R − mean(R)) / std(R) over the batch",
    "gae": "GAE over {0.level}s, γ={0.gamma:g}, λ={0.lam:g}, learned V",
}
GATES = {
    "sigmoid": "σ({0.beta:g} (ln p − ln q))",
    "agreement": "1[sign Z = sign S]",
    "outcome": "({0.low:g} + ({0.high:g} − {0.low:g}) σ(−{0.beta:g} Z))",
    "wrong": "1[wrong episode]",
    "right": "1[correct episode]",
}
BASELINES = {
    "batch": "({0} − its mean over the batch)",
    "batch_std": "whiten({0})",
    "group": "({0} − the siblings' mean)",
    "closed_form": "({0} − E_q of it)",
    "value": "({0} − learned value)",
}
CRITICS = {
    "anchors": "return against the other visits of the same state",
    "turn_rewards": "reward of the turn against the group's",
    "belief": "V_k − V_{k−1}",
}


def number(value: float | Schedule) -> str:
    """A coefficient: a number, or what its schedule does."""
    return value.describe() if isinstance(value, Schedule) else f"{value:g}"


def formula(method: MethodConfig) -> str:
    """The loss as a sum of its terms, a line each."""
    lines = [f"L = {' + '.join(_scaled(term.weight, f'L_{name}') for name, term in method.terms.items())}"]
    for name, term in method.terms.items():
        lines.append(f"L_{name} = {_mean(term)} {_weights(term.token_weights)}{term_formula(term)}")
    return "\n".join(lines)


def term_formula(term: Term) -> str:
    """What a term is at one token."""
    if isinstance(term, DivergenceTerm):
        return f"{divergence_name(term)}({target(term.target)}, q){_route(term)}  [{lookup(term.divergence).formula}]"
    if isinstance(term, PolicyGradientTerm):
        return _policy_gradient(term)
    if isinstance(term, KLTerm):
        return ESTIMATES[term.estimator].format(p="p" if term.against == "teacher" else "ref")
    return "−ln q(y)"


def divergence_name(measure: Measure) -> str:
    """Name and parameters, with the defaults of those that are not set."""
    values: Mapping[str, float | Schedule] = {**lookup(measure.divergence).defaults, **measure.parameters()}
    told = ", ".join(f"{name}={number(value)}" for name, value in values.items())
    return f"{measure.divergence}[{told}]" if told else measure.divergence


def target(wanted: Target) -> str:
    if wanted.amount is None:
        return "p"
    amount = number(wanted.amount)
    return {
        "bridge": f"softmax((1 − τ) sg z_q + τ z_p), τ={amount}",
        "skew": f"αp + (1 − α) sg q, α={amount}",
        "geometric": f"p^λ ref^(1 − λ)/Z, λ={amount}",
    }[wanted.kind]


def _route(term: DivergenceTerm) -> str:
    if term.route == "full":
        return ""
    rest = {True: "both renormalised", "teacher": "p renormalised"}.get(term.renormalise) if term.renormalise else None
    if rest is None:
        rest = "the rest dropped" if term.tail is False else "the rest one symbol"
    form = ", score-function form" if term.form == "score" else ""
    return f" over {term.support}'s top {term.k}, {rest}{form}"


def _policy_gradient(term: PolicyGradientTerm) -> str:
    parts = []
    if not is_zero(term.outcome):
        parts.append(_scaled(term.outcome, f"Z [{OUTCOMES[term.baseline].format(term.gae)}]"))
    if not is_zero(term.critic):
        parts.append(_scaled(term.critic, f"C_k [{CRITICS[term.critic_signal.kind]}]"))
    if not is_zero(term.teacher) and not isinstance(term.combine, Scale):
        gate = GATES[term.combine.by].format(term.combine) + " " if isinstance(term.combine, Gate) else ""
        parts.append(_scaled(term.teacher, f"{gate}{_signal(term)}"))
    if isinstance(term.combine, Route):
        right, wrong = term.combine.right, term.combine.wrong
        return f"−{_surrogate(term)}  with A = the {right}'s part in correct episodes and the {wrong}'s in others: {' | '.join(parts)}"
    advantage = " + ".join(parts)
    if isinstance(term.combine, Scale):
        advantage = _stretched(advantage, term, term.combine)
    return f"−{_surrogate(term)}  with A = {advantage}"


def _shaped(term: PolicyGradientTerm) -> str:
    """What is done to outcomes before and after they are compared."""
    told = []
    if term.overlong is not None:
        told.append(f"R less up to 1 over the last {term.overlong.buffer} of {term.overlong.limit} tokens")
    if term.flat_groups == "drop":
        told.append("groups of equal rewards left out")
    return "".join(f"; {each}" for each in told)


def _stretched(base: str, term: PolicyGradientTerm, scale: Scale) -> str:
    amount, signal = number(term.teacher), _signal(term)
    if scale.form == "ratio":
        return f"B [(1 − λ) + λ clip(exp(sign(B) S), 1 ± {scale.clip:g})], B = {base}, S = {signal}, λ={amount}"
    return f"B + clip(λ tanh(S/{scale.temperature:g}), ±{scale.bound:g}), not past 0, B = {base}, S = {signal}, λ={amount}"


def _signal(term: PolicyGradientTerm) -> str:
    signal = term.signal
    weights = _weights(signal.weights)
    if signal.form == "imitation":
        return f"{weights}1"
    ratio = _log_ratio(term)
    if signal.form == "minillm":
        discount = f"{signal.gamma_token:g}^(s−t)" + (f" or {signal.gamma_turn:g} a turn" if signal.gamma_turn else "")
        what = f"Σ_(s>t) {discount} ln u_s / (T − t), ln u = {ratio}"
    elif signal.divergence == "reverse_kl":
        what = f"({ratio})"
    else:
        what = f"(A_f(u) − A_f(1)) [{divergence_name(signal)}, ln u = {ratio}]"
    if signal.form == "score" and (signal.gamma_token or signal.gamma_turn):
        cost = "D" if signal.future == "full" else "f(u_s)"
        what = f"({what} − Σ_(s>t) {cost}, γ={signal.gamma_token:g} a token, {signal.gamma_turn:g} a turn)"
    if signal.baseline != "none":
        what = BASELINES[signal.baseline].format(what)
    return f"{weights}{what}"


def _log_ratio(term: PolicyGradientTerm) -> str:
    """ln u, as it is bounded before anything is made of it."""
    signal, what = term.signal, "ln p − ln q"
    if signal.extrapolation is not None:
        what = f"λ(ln p − ln ref) − (ln q − ln ref), λ={number(signal.extrapolation)}"
    if term.teacher_clip is not None:
        what = f"clip({what}, ±{term.teacher_clip:g})"
    return what if signal.floor is None else f"max({what}, ln {signal.floor:g}/(1 − {signal.floor:g}))"


def _surrogate(term: PolicyGradientTerm) -> str:
    ratio = "s" if term.ratio == "sequence" else "ρ"
    if term.surrogate == "cispo" and term.ppo_clip is not None:
        core = f"sg clip({ratio}, {_bounds(term.ppo_clip)}) A ln q(y)"
    elif term.ppo_clip is not None:
        core = f"min({ratio} A, clip({ratio}, {_bounds(term.ppo_clip)}) A)"
    else:
        core = f"{ratio} A"
    if term.dual_clip is not None:
        core = f"(A < 0: max({core}, {term.dual_clip:g} A), else {core})"
    if term.tv_mask is not None:
        moved = "|q − q_rollout|" if term.tv_mask_symmetric else "q − q_rollout towards A"
        core = f"1[{moved} ≤ {term.tv_mask[0]:g}, {term.tv_mask[1]:g}] {core}"
    penalty = f" + {term.ratio_penalty:g} (ln {ratio})²" if term.ratio_penalty else ""
    return f"{core}{_correction(term)}{penalty}"


def _correction(term: PolicyGradientTerm) -> str:
    if (correction := term.correction) is None:
        return ""
    low, high = correction.band
    bound = f"≤ {correction.cap:g}" if correction.kind == "tis" else f"in [{low:g}, {high:g}]"
    return f" × {correction.kind}({correction.level} π_old/π_rollout {bound})"


def _bounds(clip: tuple[float, float]) -> str:
    return f"1 − {clip[0]:g}, 1 + {clip[1]:g}"


def _scaled(weight: float | Schedule, what: str) -> str:
    return what if weight == 1 else f"{number(weight)} · {what}"


def _mean(term: Term) -> str:
    whose = {"student": "the student's", "data": "data", "all": "all sampled"}[term.tokens]
    per = {
        "token": f"mean over {whose} tokens of",
        "turn": f"mean over turns of the mean over {whose} tokens of",
        "sequence": f"mean over episodes of the mean over {whose} tokens of",
        "episode": f"mean over episodes of the sum over {whose} tokens" + (f" / {term.constant:g} of" if term.constant else " of"),
        "constant": f"1/{term.constant or 1:g} sum over {whose} tokens of",
    }[term.normaliser]
    return per if term.episodes == "all" else f"{per} {'correct' if term.episodes == 'right' else 'wrong'} episodes:"


def _weights(weights: tuple[TokenWeight, ...]) -> str:
    return "".join(f"w_{weight.kind} · " for weight in weights)


def knobs(method: MethodConfig) -> dict[str, object]:
    """The resolved configuration without its description, every value in it."""
    return method.model_dump(mode="json", exclude={"title", "paper", "name", "plugin", "signal", "access", "granularity", "published_with"})


def row(name: str, method: MethodConfig) -> dict[str, str]:
    """One line of the table of methods."""
    return {
        "name": name,
        "signal": method.signal,
        "access": method.access,
        "granularity": method.granularity,
        "needs": ", ".join(needs_of(method).in_words()) or "outcomes",
        "title": method.title,
        "paper": method.paper,
    }


def markdown_table(methods: Mapping[str, MethodConfig]) -> str:
    """The table of the docs."""
    head = ("method", "signal", "access", "granularity", "needs", "paper")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, method in methods.items():
        cells = row(name, method)
        told = [f"`{name}`: {cells['title']}", cells["signal"], cells["access"], cells["granularity"], cells["needs"], cells["paper"]]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in told) + " |")
    return "\n".join(lines)
