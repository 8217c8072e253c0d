"""One update by one process, or by several that share the batch: ``python -m learner.two_ranks RANK WORLD STORE OUT``.

Run as a module, it makes every case as one of several processes and writes what came of it to OUT.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agentdistill.config.schema import DivergenceTerm, KLTerm, LearnerConfig, PolicyGradientTerm, SupervisedTerm, Term
from agentdistill.config.terms import learned_values
from agentdistill.learner import Learner, shard
from agentdistill.types import Sample

from .conftest import TableTeacher, gpt2, make_samples

NORMALISERS: dict[str, dict[str, Any]] = {
    "token": {},
    "turn": {},
    "sequence": {},
    "episode": {"constant": 3.0},
    "constant": {"constant": 7.0},
}
WIDE = (0.9, 50.0)
"""Old log-probabilities of the samples are random: a clip range in which gradients live."""
KINDS: dict[str, Callable[..., Term]] = {
    "jsd": lambda **more: DivergenceTerm(divergence="jsd", beta=0.3, **more),
    "topk": lambda **more: DivergenceTerm(divergence="forward_kl", route="topk", k=5, **more),
    "ppo": lambda **more: PolicyGradientTerm(outcome=1.0, ppo_clip=WIDE, mismatch_cap=1.5, **more),
    "gspo": lambda **more: PolicyGradientTerm(outcome=1.0, ratio="sequence", ppo_clip=WIDE, **more),
    "value": lambda **more: PolicyGradientTerm(outcome=1.0, baseline="gae", ppo_clip=WIDE, **more),
    "kl_teacher": lambda **more: KLTerm(against="teacher", estimator="k2", **more),
    "kl_reference": lambda **more: KLTerm(against="reference", estimator="k3", **more),
    "supervised": lambda **more: SupervisedTerm(tokens="all", **more),
}


def every(normaliser: str) -> dict[str, Term]:
    """All kinds, with a coefficient each."""
    settings = {"normaliser": normaliser, **NORMALISERS[normaliser]}
    return {name: make(weight=0.5 + 0.25 * number, **settings) for number, (name, make) in enumerate(KINDS.items())}


@dataclass(frozen=True)
class Case:
    terms: dict[str, Term]
    dtype: torch.dtype = torch.float64
    episodes: int = 7
    spoilt: str = ""
    """Episode with an advantage that is no number."""
    targets: bool = True
    """Of learned values."""


CASES = (
    {f"{name}-{normaliser}": Case({name: every(normaliser)[name]}) for name in KINDS for normaliser in NORMALISERS}
    | {f"all-{normaliser}-float32": Case(every(normaliser), torch.float32) for normaliser in NORMALISERS}
    | {"one-episode": Case(every("turn"), episodes=1), "no-episode": Case(every("token"), episodes=0)}
    | {"idle-head": Case(every("token"), targets=False)}
    | {"spoilt": Case(every("sequence"), spoilt="e3")}
)


def batch(case: Case) -> list[Sample]:
    """The whole batch: the first episode has two segments, far apart."""
    names = tuple(case.terms)
    samples = make_samples(names, count=case.episodes)
    if case.episodes:
        (more,) = make_samples(names, count=1, seed=9)
        samples.append(replace(more, episode=samples[0].episode, segment=1))
    rng = np.random.default_rng(3)
    found = []
    for sample in samples:
        targets = np.where(sample.masks[names[0]], rng.normal(size=len(sample)), np.nan).astype(np.float32)
        if sample.episode == case.spoilt:
            sample = replace(sample, advantages={name: values * np.inf for name, values in sample.advantages.items()})
        found.append(replace(sample, returns=dict.fromkeys(learned_values(case.terms), targets) if case.targets else {}))
    return found


@dataclass
class Outcome:
    gradients: dict[str, np.ndarray] = field(default_factory=dict)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    told: dict[str, Any] = field(default_factory=dict)


def one_update(case: Case, samples: Sequence[Sample], *, micro_batch_tokens: int) -> Outcome:
    """Gradients as the optimizers see them, the weights afterwards, and the reports."""
    config = LearnerConfig(device="cpu", threads=1, clip_norm=1e9, micro_batch_tokens=micro_batch_tokens, lr=1e-3)
    learner = Learner(gpt2(dtype=case.dtype), config, values=learned_values(case.terms))
    parameters = dict(learner.trained)
    outcome = Outcome()

    def look(*_: object) -> None:
        outcome.gradients = {name: each.grad.numpy().copy() for name, each in parameters.items() if each.grad is not None}

    learner.optimizer.register_step_pre_hook(look)
    if learner.value_head is not None:
        parameters |= learner.value_head.parameters
    report = learner.accumulate(learner.pack(samples, case.terms, 0), case.terms, 0, TableTeacher())
    step = learner.update()
    outcome.weights = {name: each.detach().numpy().copy() for name, each in parameters.items()}
    outcome.told = {
        "metrics": report.metrics,
        "total": report.total,
        "norm": step.grad_norm,
        "skipped": step.skipped,
        "in_a_row": step.nonfinite_in_a_row,
        "episodes": list(step.episodes),
        "held": len({sample.episode for sample in samples}),
    }
    return outcome


def main(rank: int, world: int, store: str, out: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world, timeout=timedelta(seconds=40))
    arrays, told = {}, {}
    for name, case in CASES.items():
        outcome = one_update(case, shard(batch(case), rank, world), micro_batch_tokens=40)
        arrays |= {f"{name}/gradients/{key}": value for key, value in outcome.gradients.items()}
        arrays |= {f"{name}/weights/{key}": value for key, value in outcome.weights.items()}
        told[name] = outcome.told
    np.savez(out / f"{rank}.npz", **arrays)
    (out / f"{rank}.json").write_text(json.dumps(told))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
