"""What cannot train is refused before the first step, one case for each sentence of agentdistill.methods.refuse."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest

from agentdistill.config.schema import MethodConfig
from agentdistill.errors import ConfigError
from agentdistill.methods import Objective, refuse

STUDENT = {"student": 1}
EXPERT = {"student": 0, "expert": 1}


def gradient(**choices: Any) -> dict[str, Any]:
    return {"kind": "policy_gradient", **choices}


def divergence(**choices: Any) -> dict[str, Any]:
    return {"kind": "divergence", **choices}


def method(term: dict[str, Any] | None, *, group: int = 8, sampler: dict[str, Any] = STUDENT) -> MethodConfig:
    return MethodConfig(name="tried", group_size=group, sampler=sampler, terms={} if term is None else {"t": term})


TIP = {"kind": "tip"}
CASES: dict[str, tuple[MethodConfig, str]] = {
    "a misfit": (method(divergence(target={"kind": "bridge", "amount": 1.5})), "target.amount reaches 1.5"),
    "no terms": (method(None), "method 'tried' has no terms"),
    "no weight": (method(divergence(weight=0)), r"terms\.t\.weight is 0"),
    "a weight that stays at 0": (method(divergence(weight={"start": 0, "end": 0, "steps": 3})), r"terms\.t\.weight is 0"),
    "a bridge to nowhere": (method(divergence(target={"kind": "bridge", "amount": 0})), "target is the student itself"),
    "a target that is the reference": (method(divergence(target={"kind": "geometric", "amount": 0})), "target is the reference"),
    "a parameter of another divergence": (method(divergence(beta=0.5)), r"terms\.t: divergence 'reverse_kl'.*parameter 'beta'"),
    "a parameter that leaves its range later": (
        method(divergence(divergence="jsd", beta={"start": 0.5, "end": 1.5, "steps": 9})), r"terms\.t: .*beta",
    ),
    "an advantage of nothing": (method(gradient()), "neither an outcome nor a teacher nor a critic"),
    "an outcome without siblings": (method(gradient(outcome=1), group=1), r"compares an episode with its group, but .*group_size is 1"),
    "turns without siblings": (method(gradient(critic=1), group=1), "compares turns that begin in the same state"),
    "a policy gradient on data": (method(gradient(teacher=1, tokens="data"), sampler={"student": 0.5, "expert": 0.5}), "student sampled"),
    "a gate on no teacher": (method(gradient(outcome=1, combine={"mode": "gate", "by": "wrong"})), "combine is gate, and the teacher's"),
    "a scale of no outcome": (method(gradient(teacher=1, combine={"mode": "scale"})), "scales the outcome, whose coefficient is 0"),
    "agreement with no outcome": (method(gradient(teacher=1, combine={"mode": "gate", "by": "agreement"})), "by the outcome, whose"),
    "the worse no outcome": (method(gradient(teacher=1, combine={"mode": "gate", "by": "outcome"})), "by the outcome, whose"),
    "a route to nowhere": (method(gradient(teacher=1, combine={"mode": "route"})), "routes tokens to the outcome, whose coefficient is 0"),
    "a route to no critic": (
        method(gradient(teacher=1, outcome=1, combine={"mode": "route", "wrong": "critic"})), "routes tokens to the critic",
    ),
    "a parameter of another signal": (method(gradient(teacher=1, signal={"mu": 0.5})), r"terms\.t\.signal: divergence 'reverse_kl'"),
    "a signal of whole distributions": (method(gradient(teacher=1, signal={"divergence": "renyi"})), "no advantage of a sampled token"),
    "imitation without a gate": (method(gradient(teacher=1, signal={"form": "imitation"})), "is 1 at every token"),
    "imitation with a gate that hears no teacher": (
        method(gradient(teacher=1, signal={"form": "imitation"}, combine={"mode": "gate", "by": "wrong"})), "is 1 at every token",
    ),
    "the mean of another signal": (
        method(gradient(teacher=1, signal={"baseline": "closed_form", "floor": 0.3})), "is the mean of A_f",
    ),
    "the mean of an extrapolated signal": (
        method(gradient(teacher=1, signal={"baseline": "closed_form", "extrapolation": 1.25})), "is the mean of A_f",
    ),
    "a signal's siblings": (method(gradient(teacher=1, signal={"baseline": "group"}), group=1), "baseline=group compares with siblings"),
    "a future that is discounted away": (method(gradient(teacher=1, signal={"form": "minillm"})), "discounted by 0"),
    "the student's tokens, and no student": (method(divergence(), sampler=EXPERT), "student is 0; raise it or set"),
    "data that nobody makes": (method({"kind": "supervised"}), "nobody makes any"),
    "dense weights of sampled tokens": (
        method(gradient(teacher=1, token_weights=[{"kind": "teacher_entropy", "above": 0.8}])), "by teacher_entropy, which only a",
    ),
    "dense weights of a signal": (method(gradient(teacher=1, signal={"weights": [{"kind": "teachability"}]})), "by teachability, which"),
    "the teacher's weights of the reference": (
        method({"kind": "kl_estimate", "against": "reference", "token_weights": [TIP]}), "about the reference and weighs tokens",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_term_that_could_not_learn_is_refused(case: str) -> None:
    config, sentence = CASES[case]
    with pytest.raises(ConfigError, match=sentence):
        Objective(config)


@pytest.mark.parametrize(
    "config",
    [
        method(divergence(weight={"start": 0, "end": 1, "steps": 3})),
        method(divergence(target={"kind": "bridge", "amount": {"start": 0, "end": 1, "steps": 3}})),
        method(gradient(outcome=1, baseline="none"), group=1),
        method(gradient(teacher=1, outcome=1, combine={"mode": "route"})),
        method(gradient(teacher=1, signal={"form": "imitation"}, combine={"mode": "gate", "by": "sigmoid"})),
        method(gradient(teacher=1, signal={"baseline": "closed_form"}), group=1),
        method(divergence(token_weights=[{"kind": "teacher_entropy", "above": 0.8}, TIP])),
        method({"kind": "kl_estimate", "against": "teacher", "token_weights": [TIP]}),
        method({"kind": "supervised"}, sampler={"student": 0, "teacher": 1}),
        method({"kind": "supervised", "tokens": "all"}),
    ],
)
def test_what_can_learn_some_time_is_not_refused(config: MethodConfig) -> None:
    Objective(config)


def test_every_refusal_has_a_case() -> None:
    """Each ``raise ConfigError`` of the module is where some case ends."""
    source = Path(inspect.getfile(refuse))
    lines = {node.lineno for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.Raise)}
    reached = set()
    for config, _ in CASES.values():
        with pytest.raises(ConfigError) as caught:
            refuse.refuse_dead_terms(config)
        reached.add([entry.lineno + 1 for entry in caught.traceback if Path(str(entry.path)) == source][-1])
    assert any(reached)
    assert len(reached) == len(lines), sorted(lines - reached)
