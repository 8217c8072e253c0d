"""The learned value: what it learns, what it may not touch, and that it survives a restart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from agentdistill.config.schema import LearnerConfig, PolicyGradientTerm
from agentdistill.config.terms import learned_values
from agentdistill.config.value import Gae
from agentdistill.errors import ConfigError, NumericsError, StoreError
from agentdistill.learner import Learner
from agentdistill.learner.packing import MicroBatch, Regression
from agentdistill.learner.plan import Plan
from agentdistill.learner.value import ValueHead
from agentdistill.types import Sample

from .bits import fingerprint

TERMS = {"pg": PolicyGradientTerm(outcome=1.0, baseline="gae", gae={"value_lr": 1e-2})}


def learner_of(model: Any, *, values: bool = True, **config: Any) -> Learner:
    settings = LearnerConfig(**{"device": "cpu", "threads": 1, "warmup_steps": 0, **config})
    return Learner(model, settings, values=learned_values(TERMS) if values else None)


def with_returns(samples: Sequence[Sample], seed: int = 0) -> list[Sample]:
    """Targets at all tokens of the term."""
    rng = np.random.default_rng(seed)
    return [
        replace(sample, returns={"pg": np.where(sample.masks["pg"], rng.normal(1.0, 1.0, len(sample)), np.nan).astype(np.float32)})
        for sample in samples
    ]


def accumulate(learner: Learner, samples: Sequence[Sample]) -> Any:
    return learner.accumulate(learner.pack(samples, TERMS, 0), TERMS, 0)


def hidden_before(learner: Learner, sample: Sample) -> np.ndarray:
    """[L, H]: what the model knows before each token; row 0 is of no use."""
    ids = torch.as_tensor(sample.token_ids[None].astype(np.int64))
    with torch.no_grad():
        states = learner.model.base_model(input_ids=ids).last_hidden_state[0]
    return np.roll(states.double().numpy(), 1, axis=0)


# --- what it learns -------------------------------------------------------------------------------------------------


def fit(hidden: np.ndarray, targets: np.ndarray, *, steps: int = 2000) -> np.ndarray:
    """Predictions of a head that saw these states and targets until it stopped moving."""
    head = ValueHead(hidden.shape[1], {"v": Gae(value_lr=0.05)}, device=torch.device("cpu"), dtype=torch.float64)
    count, empty = len(targets), np.zeros(0, np.int64)
    regression = Regression(index=np.arange(count), targets=targets.astype(np.float32), weight=1 / count)
    micro = MicroBatch(samples=(), input_ids=empty[None], rows=np.zeros(count, np.int64), cols=empty, values={"v": regression})
    states = torch.as_tensor(hidden)
    for step in range(steps):
        plan = Plan(head=None, targets=torch.zeros(count), parts=())  # type: ignore[arg-type]
        head.backward(micro, states, plan)
        head.optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / steps)
        head.step(clip_norm=1e9)
        head.discard()
    return head.predict("v", states).detach().numpy()


def test_the_head_learns_the_exact_values_of_a_table() -> None:
    """Five states, each seen several times with returns that differ: least squares gives each the mean of its returns."""
    rng = np.random.default_rng(0)
    state = np.array([0, 0, 0, 1, 1, 2, 3, 3, 3, 3, 4])
    features, returns = rng.normal(size=(5, 5)), rng.normal(size=len(state))
    exact = np.array([returns[state == each].mean() for each in range(5)])
    assert fit(features[state], returns) == pytest.approx(exact[state], abs=1e-3)


def test_where_the_features_do_not_suffice_it_is_the_least_squares_fit() -> None:
    rng = np.random.default_rng(1)
    features, returns = rng.normal(size=(40, 6)), rng.normal(size=40)
    design = np.column_stack([features, np.ones(40)])
    best = design @ np.linalg.lstsq(design, returns, rcond=None)[0]
    assert fit(features, returns) == pytest.approx(best, abs=1e-3)


def test_the_gradient_is_the_mean_error_times_what_the_model_knew_before_the_token(tools: Any) -> None:
    learner, samples = learner_of(tools.gpt2()), with_returns(tools.samples(("pg",)))
    accumulate(learner, samples)
    rows, errors = [], []
    for sample in samples:
        at = np.flatnonzero(sample.masks["pg"])
        rows.append(hidden_before(learner, sample)[at])
        errors.append(-sample.returns["pg"][at].astype(np.float64))  # V is 0 before the first update
    assert learner.value_head is not None
    gradients = {name: each.grad for name, each in learner.value_head.parameters.items()}
    all_errors = np.concatenate(errors)
    np.testing.assert_allclose(gradients["pg.weight"], all_errors @ np.concatenate(rows) / len(all_errors), rtol=1e-9)
    np.testing.assert_allclose(gradients["pg.bias"], all_errors.mean(), rtol=1e-9)


def test_it_begins_as_zero_and_says_nothing_where_nobody_sampled(tools: Any) -> None:
    learner = learner_of(tools.gpt2())
    for sample in learner.score(tools.samples(("pg",)), {"value", "old"}):
        values = sample.values["pg"]
        assert (values[sample.sampled] == 0).all()
        assert np.isnan(values[~sample.sampled]).all()
        assert sample.values_after == {"pg": 0.0}
        assert sample.old_logprobs is not None


def test_a_value_is_that_of_the_state_before_its_token_and_one_more_is_that_after_the_last(tools: Any) -> None:
    learner, samples = learner_of(tools.gpt2(), micro_batch_tokens=40), tools.samples(("pg",))
    weight = torch.randn(16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert learner.value_head is not None
    learner.value_head.parameters["pg.weight"].data.copy_(weight)
    learner.value_head.parameters["pg.bias"].data.fill_(0.5)
    for sample, scored in zip(samples, learner.score(samples, {"value"}), strict=True):
        expected = hidden_before(learner, sample) @ weight.numpy() + 0.5
        assert scored.values["pg"][sample.sampled] == pytest.approx(expected[sample.sampled], rel=1e-5)
        assert scored.values_after["pg"] == pytest.approx(expected[0], rel=1e-5)  # rolled: row 0 is the state after the last token


# --- what it may not touch ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip_norm", [1e-3, 1e9])
def test_the_policy_learns_bit_for_bit_as_it_would_without_the_head(tools: Any, clip_norm: float) -> None:
    """Neither gradients nor the clipping of their norm know of the head's, however wrong it is."""
    samples = tools.samples(("pg",))
    plain, valued = (learner_of(tools.llama(), values=values, clip_norm=clip_norm) for values in (False, True))
    for _ in range(3):
        # the term's weights say the same without targets, because the targets lie on its own tokens
        plain_terms = {"pg": PolicyGradientTerm(outcome=1.0)}
        plain.accumulate(plain.pack(samples, plain_terms, 0), plain_terms, 0)
        large = [replace(s, returns={"pg": s.returns["pg"] * 1e3}) for s in with_returns(samples)]
        accumulate(valued, large)
        for one, other in zip(plain.trained.values(), valued.trained.values(), strict=True):
            assert torch.equal(one.grad, other.grad)
        reports = plain.update(), valued.update()
        assert reports[0].grad_norm == reports[1].grad_norm
    for one, other in zip(plain.trained.values(), valued.trained.values(), strict=True):
        assert torch.equal(one, other)


def test_no_advantage_reaches_the_head(tools: Any) -> None:
    gradients = []
    for scale in (1.0, -50.0):
        learner = learner_of(tools.gpt2())
        samples = with_returns(tools.samples(("pg",)))
        accumulate(learner, [replace(s, advantages={"pg": s.advantages["pg"] * scale}) for s in samples])
        assert learner.value_head is not None
        gradients.append([each.grad.clone() for each in learner.value_head.parameters.values()])  # type: ignore[union-attr]
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_with_nothing_to_do_for_the_policy_only_the_head_moves(tools: Any) -> None:
    learner = learner_of(tools.llama())
    samples = [replace(s, advantages={"pg": np.zeros(len(s), np.float32)}) for s in with_returns(tools.samples(("pg",)))]
    before = {name: parameter.clone() for name, parameter in learner.trained.items()}
    losses = []
    for _ in range(30):
        losses.append(accumulate(learner, samples).components["value/pg"])
        assert not learner.update().skipped
    assert all(torch.equal(before[name], parameter) for name, parameter in learner.trained.items())
    assert losses[-1] < 0.7 * losses[0]


def test_targets_on_tokens_that_weigh_nothing_are_learned_too(tools: Any) -> None:
    """A turn's value is asked at its first token, and the term's weights may leave that one out."""
    samples = with_returns(tools.samples(("pg",)))
    silent = [replace(s, masks={"pg": np.zeros(len(s), np.bool_)}, weights={}) for s in samples]
    report = accumulate(learner_of(tools.llama()), silent)
    targets = np.concatenate([s.returns["pg"][~np.isnan(s.returns["pg"])] for s in samples]).astype(np.float64)
    assert report.metrics["loss/value/pg"] == pytest.approx(0.5 * (targets**2).mean(), rel=1e-6)


def test_a_position_that_only_the_value_looks_at_is_no_trained_token(tools: Any) -> None:
    samples = with_returns(tools.samples(("pg",)))
    plain = accumulate(learner_of(tools.llama()), samples)
    for sample in samples:
        sample.returns["pg"][1] = 1.0  # the prompt
    report = accumulate(learner_of(tools.llama()), samples)
    for name in ("tokens/trained", "policy/entropy", "loss/pg", "mismatch/logprob/mean_abs"):
        assert report.metrics[name] == pytest.approx(plain.metrics[name], rel=1e-6)
    assert report.metrics["loss/value/pg"] != pytest.approx(plain.metrics["loss/value/pg"], rel=1e-3)
    arrays = report.token_arrays()["e0", 0]
    assert np.isnan(arrays["entropy"][1])
    assert np.isnan(arrays["student_logprobs"][1])
    assert arrays["value/pg"][1] == 0


def test_splitting_the_batch_changes_no_gradient_of_the_head(tools: Any) -> None:
    found = []
    for tokens in (20, 10_000):
        learner = learner_of(tools.gpt2(), micro_batch_tokens=tokens)
        accumulate(learner, with_returns(tools.samples(("pg",))))
        assert learner.value_head is not None
        found.append([each.grad.clone() for each in learner.value_head.parameters.values()])  # type: ignore[union-attr]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=0)


# --- reports, guards, restarts --------------------------------------------------------------------------------------


def test_the_report_says_how_wrong_it_was_and_what_it_explained(tools: Any) -> None:
    learner, samples = learner_of(tools.llama()), with_returns(tools.samples(("pg",)))
    report = accumulate(learner, samples)
    targets = np.concatenate([s.returns["pg"][~np.isnan(s.returns["pg"])] for s in samples]).astype(np.float64)
    assert report.components["value/pg"] == pytest.approx(0.5 * (targets**2).mean(), rel=1e-6)
    assert report.metrics["loss/total"] == pytest.approx(report.components["pg"] + report.components["value/pg"])
    assert report.metrics["value/explained_variance"] == pytest.approx(0.0, abs=1e-6)  # a constant explains nothing
    arrays = report.token_arrays()["e0", 0]
    assert (arrays["value/pg"][~np.isnan(samples[0].returns["pg"])] == 0).all()
    for _ in range(40):
        learner.update()
        report = accumulate(learner, samples)
    assert 0 < report.metrics["value/explained_variance"] <= 1


def test_a_target_that_is_no_number_moves_nothing_and_names_its_episode(tools: Any) -> None:
    learner, samples = learner_of(tools.llama(), max_nonfinite=2), with_returns(tools.samples(("pg",)))
    accumulate(learner, samples)
    learner.update()
    before = fingerprint(learner)
    samples[2].returns["pg"][np.flatnonzero(samples[2].masks["pg"])[0]] = np.inf
    accumulate(learner, samples)
    report = learner.update()
    assert report.skipped
    assert report.episodes == ("e2",)
    assert fingerprint(learner) == before
    accumulate(learner, samples)
    with pytest.raises(NumericsError, match="Episodes: e2"):
        learner.update()


def test_an_error_leaves_no_gradient_behind_in_the_head(tools: Any) -> None:
    learner = learner_of(tools.llama())
    accumulate(learner, with_returns(tools.samples(("pg",))))
    learner.discard()
    assert learner.value_head is not None
    assert all(each.grad is None for each in learner.value_head.parameters.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_resumed_head_is_bit_identical_to_one_that_never_stopped(tools: Any, dtype: torch.dtype) -> None:
    samples = with_returns(tools.samples(("pg",)))

    def train(learner: Learner, steps: int) -> list[float]:
        found = []
        for _ in range(steps):
            found.append(accumulate(learner, samples).total)
            learner.update()
        return found

    whole, first, second = (learner_of(tools.gpt2(dtype=dtype), lr=1e-2) for _ in range(3))
    losses = train(whole, 6)
    train(first, 3)
    tensors, meta = first.state()
    train(first, 1)  # what was saved is a copy
    second.load_state(tensors, json.loads(json.dumps(meta)))
    assert train(second, 3) == losses[3:]
    assert fingerprint(second) == fingerprint(whole)
    assert set(tensors) == {"model.safetensors", "optimizer.safetensors", "value.safetensors"}


def test_a_checkpoint_without_the_head_is_refused_and_one_with_it_serves_a_learner_without(tools: Any) -> None:
    valued, plain = learner_of(tools.llama()), learner_of(tools.llama(), values=False)
    tensors, meta = valued.state()
    plain.load_state(tensors, meta)
    before = fingerprint(valued)
    with pytest.raises(StoreError, match=r"no 'value\.safetensors'.*its method learned no value"):
        valued.load_state(*plain.state())
    other = {**tensors, "value.safetensors": {"pg.weight": np.zeros(3, np.float32), "pg.bias": np.zeros((), np.float32)}}
    with pytest.raises(StoreError, match=r"'pg\.weight' has shape \(3,\)"):
        valued.load_state(other, meta)
    with pytest.raises(StoreError, match=r"lacks 'pg\.weight'"):
        valued.load_state({**tensors, "value.safetensors": {}}, meta)
    assert fingerprint(valued) == before


def test_a_learner_without_a_head_says_so(tools: Any) -> None:
    learner = learner_of(tools.llama(), values=False)
    with pytest.raises(ConfigError, match=r"values=learned_values\(terms\)"):
        learner.score(tools.samples(("pg",)), {"value"})
    with pytest.raises(ConfigError, match="what the value 'pg' should learn"):
        accumulate(learner, with_returns(tools.samples(("pg",))))


def test_a_head_is_kept_for_outcomes_and_for_signals_and_only_where_they_count() -> None:
    terms = {
        "a": PolicyGradientTerm(outcome=1.0, baseline="gae"),
        "b": PolicyGradientTerm(teacher=1.0, baseline="gae", signal={"baseline": "value"}),
        "c": PolicyGradientTerm(outcome=1.0),
    }
    assert list(learned_values(terms)) == ["a", "b/teacher"]
