from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from agentdistill.config.schema import DivergenceTerm, KLTerm, LearnerConfig, PolicyGradientTerm, SupervisedTerm
from agentdistill.errors import ConfigError, NumericsError, TeacherError
from agentdistill.learner import Learner, needs, resolve_device
from agentdistill.learner.device import resolve_autocast, set_threads
from agentdistill.learner.learner import learning_rate

from .bits import fingerprint

KL = {"kl": DivergenceTerm()}
SFT = {"sft": SupervisedTerm()}


def learner_of(model: Any, *, reference: Any = None, **config: Any) -> Learner:
    return Learner(model, LearnerConfig(**{"device": "cpu", "threads": 1, "warmup_steps": 0, **config}), reference=reference)


def train(learner: Learner, samples: Any, terms: Any, teacher: Any, steps: int, *, start: int = 0) -> list[float]:
    losses = []
    for step in range(start, start + steps):
        report = learner.accumulate(learner.pack(samples, terms, step), terms, step, teacher)
        learner.update()
        losses.append(report.total)
    return losses


def test_training_brings_the_student_to_the_teacher(tools: Any) -> None:
    """The teacher is another model of the same kind; reverse KL on fixed prefixes falls by a factor of ten."""
    from agentdistill.learner.head import hidden_states

    target = tools.llama(seed=1)

    class ModelTeacher(tools.teacher):  # type: ignore[misc, name-defined]
        @torch.no_grad()
        def row(self, episode: str, position: int) -> torch.Tensor:
            sample = next(s for s in samples if s.episode == episode)
            ids = torch.as_tensor(sample.token_ids[None, :position], dtype=torch.long)
            return target.lm_head(hidden_states(target.model, ids)[0, -1]).log_softmax(-1)

    samples = tools.samples(("kl",), count=4)
    losses = train(learner_of(tools.llama(), lr=2e-2), samples, KL, ModelTeacher(), 40)
    assert losses[-1] < losses[0] / 10


def test_learning_rate_warms_up_linearly_and_then_stays(tools: Any) -> None:
    learner = learner_of(tools.llama(), lr=1e-3, warmup_steps=4)
    rates = []
    for step in range(6):
        learner.accumulate(learner.pack(tools.samples(("sft",)), SFT, step), SFT, step)
        rates.append(learner.update().lr)
    assert rates == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1e-3, 1e-3])


def test_learning_rate_falls_linearly_to_its_share_and_stays_there() -> None:
    config = LearnerConfig(lr=1e-3, warmup_steps=2, decay_steps=4, decay_to=0.2)
    rates = [learning_rate(config, updates) for updates in range(7)]
    assert rates == pytest.approx([0.5e-3, 0.8e-3, 0.6e-3, 0.4e-3, 0.2e-3, 0.2e-3, 0.2e-3])


def test_the_first_step_is_that_of_adamw_on_the_clipped_gradient(tools: Any) -> None:
    samples, learner = tools.samples(("sft",)), learner_of(tools.gpt2(), lr=1e-3, clip_norm=1e-3, weight_decay=0.5)
    learner.accumulate(learner.pack(samples, SFT, 0), SFT, 0)
    before = {name: value.detach().clone() for name, value in learner.trained.items()}
    grads = tools.gradients(learner)
    norm = float(torch.cat([g.flatten() for g in grads.values()]).norm())
    report = learner.update()
    assert report.grad_norm == pytest.approx(norm, rel=1e-6)
    assert report.clipped
    assert report.metrics["optim/clipped"] == 1.0
    for name, value in learner.trained.items():
        g = grads[name] * 1e-3 / (norm + 1e-6)
        decayed = before[name] * (1 - 1e-3 * 0.5) if value.ndim >= 2 else before[name]
        torch.testing.assert_close(value.detach(), decayed - 1e-3 * g / (g.abs() + 1e-8), rtol=1e-7, atol=1e-7)


def test_accumulating_twice_adds_up(tools: Any) -> None:
    samples = tools.samples(("sft",))
    terms = {"sft": SupervisedTerm(normaliser="constant", constant=1.0)}
    _, whole = tools.run(tools.gpt2(), samples, terms)
    learner = learner_of(tools.gpt2())
    for part in (samples[:2], samples[2:]):
        learner.accumulate(learner.pack(part, terms, 0), terms, 0)
    halves = tools.gradients(learner)
    assert all(torch.allclose(whole[name], halves[name], rtol=1e-9, atol=1e-9) for name in whole)


# --- numbers that are not finite ------------------------------------------------------------------------------------


class Poisoned:
    """A teacher that answers one episode with what it is told to."""

    def __init__(self, teacher: Any, episode: str, value: float) -> None:
        self.teacher, self.episode, self.value = teacher, episode, value

    def dense(self, samples: Any, positions: Any) -> Any:
        target = self.teacher.dense(samples, positions)
        hit = [s.episode == self.episode for s, cols in zip(samples, positions, strict=True) for _ in cols]
        target.table[torch.tensor(hit)] = torch.tensor([0.0] + [self.value] * (self.teacher.vocab - 1), dtype=target.table.dtype)
        return target


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_nonfinite_step_leaves_weights_and_optimizer_bit_unchanged(tools: Any, value: float) -> None:
    samples, teacher = tools.samples(("kl",)), tools.teacher(dtype=torch.float32)
    learner, twin = (learner_of(tools.llama(), warmup_steps=5) for _ in range(2))
    for one in (learner, twin):
        train(one, samples, KL, teacher, 2)
    before = fingerprint(learner)
    learner.accumulate(learner.pack(samples, KL, 2), KL, 2, Poisoned(teacher, "e3", value))
    report = learner.update()
    assert report.skipped
    assert report.episodes == ("e3",)
    assert (report.nonfinite_in_a_row, learner.nonfinite_total, learner.updates) == (1, 1, 2)
    assert fingerprint(learner) == before
    assert train(learner, samples, KL, teacher, 1) == train(twin, samples, KL, teacher, 1)
    assert fingerprint(learner) == fingerprint(twin)
    assert learner.nonfinite_in_a_row == 0


def test_a_nonfinite_gradient_behind_a_finite_loss_is_skipped_too(tools: Any) -> None:
    samples, learner = tools.samples(("sft",)), learner_of(tools.llama())
    before = fingerprint(learner)
    learner.accumulate(learner.pack(samples, SFT, 0), SFT, 0)
    next(iter(learner.trained.values())).grad[0, 0] = float("inf")  # type: ignore[index]
    report = learner.update()
    assert report.skipped
    assert report.grad_norm == float("inf")
    assert set(report.episodes) == {s.episode for s in samples}
    assert fingerprint(learner) == before


def test_too_many_nonfinite_steps_in_a_row_stop_the_run(tools: Any) -> None:
    samples, learner = tools.samples(("kl",)), learner_of(tools.llama(), max_nonfinite=2)
    bad = Poisoned(tools.teacher(dtype=torch.float32), "e3", float("nan"))
    before = fingerprint(learner)
    learner.accumulate(learner.pack(samples, KL, 0), KL, 0, bad)
    assert learner.update().skipped
    learner.accumulate(learner.pack(samples, KL, 1), KL, 1, bad)
    with pytest.raises(NumericsError, match=r"2 steps in a row .*'kl': nan.*Episodes: e3") as caught:
        learner.update()
    assert caught.value.exit_code == 5
    assert fingerprint(learner) == before


def test_an_empty_batch_is_no_step(tools: Any) -> None:
    learner = learner_of(tools.llama())
    before = fingerprint(learner)
    report = learner.accumulate([], KL, 0)
    assert report.total == 0.0
    assert report.annotations(0) == []
    step = learner.update()
    assert (step.skipped, step.nonfinite_in_a_row, learner.updates) == (True, 0, 0)
    assert fingerprint(learner) == before
    assert learner.update().skipped


def test_an_error_of_the_teacher_leaves_nothing_accumulated(tools: Any) -> None:
    class Absent:
        def dense(self, samples: Any, positions: Any) -> Any:
            raise TeacherError("away")

    samples, learner = tools.samples(("kl", "sft")), learner_of(tools.llama())
    learner.accumulate(learner.pack(samples, SFT, 0), SFT, 0)
    with pytest.raises(TeacherError):
        learner.accumulate(learner.pack(samples, KL, 0), KL, 0, Absent())
    assert all(parameter.grad is None for parameter in learner.trained.values())
    assert not learner.model.training
    assert learner.update().skipped


def test_a_divergence_without_a_white_box_teacher_is_refused(tools: Any) -> None:
    learner = learner_of(tools.llama())
    with pytest.raises(ConfigError, match="'kl' is a divergence over the whole vocabulary and needs a white-box teacher"):
        learner.accumulate(learner.pack(tools.samples(("kl",)), KL, 0), KL, 0)


# --- precision and devices ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
def test_bfloat16_autocast_follows_the_float32_gradient_and_keeps_float32_weights(tools: Any, tied: bool) -> None:
    terms = {"kl": DivergenceTerm(), "pg": PolicyGradientTerm()}
    samples = [replace(s, old_logprobs=None) for s in tools.samples(("kl", "pg"))]
    report, exact = tools.run(tools.llama(tied=tied), samples, terms, teacher=tools.teacher(), dtype="float32")
    half_report, half = tools.run(tools.llama(tied=tied), samples, terms, teacher=tools.teacher(), dtype="bfloat16", chunk_tokens=7)
    assert half_report.total == pytest.approx(report.total, rel=0.05)
    assert half_report.total != report.total
    for name, gradient in exact.items():
        assert half[name].dtype is torch.float32
        assert torch.cosine_similarity(gradient.flatten(), half[name].flatten(), dim=0) > 0.98, name


def test_activation_checkpointing_changes_nothing(tools: Any) -> None:
    """Each layer runs forward twice instead of keeping its activations, and the gradient is the same."""
    samples, calls = tools.samples(("kl",)), []
    model = tools.llama()
    model.model.layers[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    report, expected = tools.run(tools.llama(), samples, KL, teacher=tools.teacher())
    checkpointed, found = tools.run(model, samples, KL, teacher=tools.teacher(), activation_checkpointing=True)
    assert len(calls) == 1 + 1 + 2  # the two of the head's comparison, then forward and recomputation
    assert checkpointed.total == report.total
    assert all(torch.allclose(found[name], expected[name], rtol=1e-6, atol=1e-7) for name in expected)


def test_trained_weights_in_half_precision_are_refused(tools: Any) -> None:
    with pytest.raises(ConfigError, match=r"torch\.bfloat16, in which small updates vanish"):
        learner_of(tools.llama().bfloat16())


def test_devices_that_are_not_there_are_refused_by_name() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in ("cpu", "cuda", "mps")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match=r"device 'cuda' is not available on this machine; available: .*cpu"):
            resolve_device("cuda")


def test_bfloat16_is_automatic_on_cuda_only() -> None:
    assert [resolve_autocast("auto", torch.device(name)) for name in ("cuda", "mps", "cpu")] == [True, False, False]
    assert resolve_autocast("bfloat16", torch.device("cpu"))
    assert not resolve_autocast("float32", torch.device("cuda"))


@contextmanager
def threads_kept() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_small_models_use_one_thread_and_large_ones_all_cores() -> None:
    with threads_kept():
        assert set_threads(None, 200_000) == 1
        assert set_threads(None, 100_000_000) >= 1
        assert set_threads(2, 200_000) == 2


# --- scoring --------------------------------------------------------------------------------------------------------


def test_scores_are_the_models_own_log_probabilities(tools: Any) -> None:
    samples, model = tools.samples(), tools.gpt2()
    learner = learner_of(model, micro_batch_tokens=40, chunk_tokens=5)
    scored = learner.score([replace(s, old_logprobs=None, ref_logprobs=None) for s in samples], {"old"})
    for sample, streams in zip(scored, learner.streams(samples, {"old", "entropy"}), strict=True):
        lq = model(input_ids=torch.as_tensor(sample.token_ids[None], dtype=torch.long)).logits[0].log_softmax(-1)
        expected = np.full(len(sample), np.nan)
        entropy = np.full(len(sample), np.nan)
        for t in np.flatnonzero(sample.sampled):
            expected[t] = float(lq[t - 1, int(sample.token_ids[t])].detach())
            entropy[t] = float(-(lq[t - 1].exp() * lq[t - 1]).sum().detach())
        np.testing.assert_allclose(sample.old_logprobs, expected, atol=1e-6)
        np.testing.assert_allclose(streams["old"], expected, atol=1e-6)
        np.testing.assert_allclose(streams["entropy"], entropy, atol=1e-6)
        assert sample.ref_logprobs is None
        assert sample.old_logprobs.dtype == np.float32


def test_scored_old_logprobs_make_the_first_ratio_one(tools: Any) -> None:
    learner = learner_of(tools.gpt2(), lr=1e-2)
    samples = learner.score(tools.samples(("pg",)), {"old"})
    terms = {"pg": PolicyGradientTerm()}
    report = learner.accumulate(learner.pack(samples, terms, 0), terms, 0)
    assert report.metrics["policy/ratio/max"] == pytest.approx(1.0, abs=1e-6)
    learner.update()
    report = learner.accumulate(learner.pack(samples, terms, 0), terms, 0)
    assert abs(report.metrics["policy/ratio/max"] - 1.0) > 1e-3


def test_the_reference_stays_where_the_student_began(tools: Any) -> None:
    terms = {"kl": KLTerm(against="reference"), "sft": SupervisedTerm(weight=0.5)}
    samples = tools.samples(("kl", "sft"))
    learner = learner_of(tools.llama(), lr=1e-2, reference="ref_logprobs" in needs(terms))
    first = learner.score(samples, {"old", "ref"})
    assert all(np.array_equal(s.old_logprobs, s.ref_logprobs, equal_nan=True) for s in first)
    train(learner, first, terms, None, 3)
    second = learner.score(samples, {"old", "ref"})
    assert all(np.array_equal(a.ref_logprobs, b.ref_logprobs, equal_nan=True) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0].old_logprobs, second[0].old_logprobs, equal_nan=True)


def test_another_model_can_be_the_reference(tools: Any) -> None:
    samples, other = tools.samples(), tools.llama(seed=5)
    found = learner_of(tools.llama(), reference=other).streams(samples, {"ref"})
    expected = learner_of(tools.llama(seed=5)).streams(samples, {"old"})
    assert all(np.array_equal(a["ref"], b["old"], equal_nan=True) for a, b in zip(found, expected, strict=True))
    assert not any(parameter.requires_grad for parameter in other.parameters())


def test_scores_that_cannot_be_made_are_refused(tools: Any) -> None:
    learner = learner_of(tools.llama())
    with pytest.raises(ConfigError, match="construct it with reference=True"):
        learner.score(tools.samples(), {"ref"})
    with pytest.raises(ConfigError, match="no stream 'olt'; available: entropy, old, ref, value; did you mean 'old'"):
        learner.score(tools.samples(), {"olt"})
