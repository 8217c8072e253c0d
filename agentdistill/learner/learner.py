"""The learner: owns the model, its optimizer and the one place where weights change.

    learner = Learner(model, config, reference="ref_logprobs" in needs(terms))
    samples = learner.score(samples, {"old", "ref"})
    report = learner.accumulate(learner.pack(samples, terms, step), terms, step, dense)
    step_report = learner.update()

``accumulate`` may be called several times before ``update``; gradients add up. A batch with a number that is not finite never moves
the weights: they, the optimizer and the learning-rate schedule are afterwards bit for bit what they were before it.

Where torch.distributed is initialised, each process has a part of the batch (:mod:`agentdistill.learner.ranks`), and what comes out is
what one process would have made of the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from agentdistill.config.method import resolved
from agentdistill.config.schema import LearnerConfig, Term
from agentdistill.config.value import Gae
from agentdistill.errors import ConfigError, NumericsError, StoreError
from agentdistill.learner import state as state_
from agentdistill.learner.adapters import Reference, add_lora, save_lora
from agentdistill.learner.counts import active_terms, normalisers
from agentdistill.learner.device import Precision, resolve_autocast, set_threads
from agentdistill.learner.head import Head, check_head, enable_checkpointing
from agentdistill.learner.kernel import token_losses
from agentdistill.learner.packing import MicroBatch, pack
from agentdistill.learner.plan import make_plan
from agentdistill.learner.probe import probe_terms
from agentdistill.learner.ranks import Ranks
from agentdistill.learner.ratios import samples_of, wanted, with_sequence_ratios
from agentdistill.learner.report import LossReport, Measured, StepReport, make_report
from agentdistill.learner.scorer import Scorer
from agentdistill.learner.scoring import flat_hidden
from agentdistill.learner.value import FILE as VALUE_FILE
from agentdistill.learner.value import ValueHead
from agentdistill.policy import resolve_device
from agentdistill.types import Sample

if TYPE_CHECKING:
    from agentdistill.teacher.protocol import DenseTeacher


def learning_rate(config: LearnerConfig, updates: int) -> float:
    """The rate of the next update after ``updates`` of them: linear warm-up, times linear decay where one is configured."""
    warmup = min(1.0, (updates + 1) / max(config.warmup_steps, 1))
    decay = 1.0 if config.decay_steps is None else 1.0 - (1.0 - config.decay_to) * min(updates / config.decay_steps, 1.0)
    return config.lr * warmup * decay


class Learner(Scorer):
    """Trains a Hugging Face causal LM in place.

    Args:
        model: moved to the device; with ``config.lora`` its modules get adapters and its own weights are frozen.
        config: see :class:`~agentdistill.config.schema.LearnerConfig`.
        device: overrides ``config.device``.
        vocab_size: ids that the policy is over; a head that is padded beyond is cut there. ``None``: the head's own size.
        reference: True keeps the policy as it is now (a frozen copy; with LoRA the base itself, at no cost); a model is used as given.
        values: learned values to keep beside the policy; see :func:`agentdistill.config.terms.learned_values`.

    Raises:
        ConfigError: a head that the learner cannot take apart, trained weights in half precision, a device that is not there.
    """

    def __init__(
        self,
        model: Any,
        config: LearnerConfig,
        *,
        device: str | torch.device | None = None,
        reference: nn.Module | bool | None = None,
        vocab_size: int | None = None,
        values: Mapping[str, Gae] | None = None,
    ) -> None:
        self.config = config
        self.device = resolve_device(config.device if device is None else device)
        self.ranks = Ranks(self.device)
        self.precision = Precision(device=self.device, autocast=resolve_autocast(config.dtype, self.device))
        self.model = model.to(self.device)
        self._adapters = add_lora(self.model, config.lora) if config.lora is not None else None
        self.trained = {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        self._require_full_precision()
        self.model.eval()
        self.head = Head.of(self.model, vocab_size)
        check_head(self.model, self.head)
        if config.activation_checkpointing:
            enable_checkpointing(self.model)
        if self.device.type == "cpu":
            set_threads(config.threads, sum(parameter.numel() for parameter in self.model.parameters()))
        self.reference = Reference.of(self.model, self._adapters, False if reference is None else reference)
        self.optimizer = torch.optim.AdamW(self._groups(), lr=config.lr, betas=config.betas)
        width, dtype = self.head.weight.shape[1], torch.promote_types(self.head.weight.dtype, torch.float32)
        self.value_head = ValueHead(width, values, device=self.device, dtype=dtype) if values else None
        self.updates = 0
        """Optimizer steps taken; a skipped one does not count."""
        self.nonfinite_in_a_row = 0
        self.nonfinite_total = 0
        self._pending: list[LossReport] = []
        self._probed: dict[str, float] = {}
        """Figures of this step's probe."""

    # --- the update ----------------------------------------------------------------------------------------------------

    def pack(self, samples: Sequence[Sample], terms: Mapping[str, Term], step: int) -> list[MicroBatch]:
        """Cut a whole batch, or this rank's part of it, into micro-batches; see :func:`agentdistill.learner.packing.pack`.

        Over several ranks the terms' counts are summed. Credit is not: it compares episodes, and is assigned on the whole batch before
        :func:`agentdistill.learner.ranks.shard` splits it, so that group and batch statistics are global by construction.
        """
        active = active_terms(terms, step)
        totals = self.ranks.sum_counts(normalisers(samples, active), active)
        return pack(samples, terms, step, micro_batch_tokens=self.config.micro_batch_tokens, totals=totals)

    def accumulate(
        self, micro_batches: Sequence[MicroBatch], terms: Mapping[str, Term], step: int, dense: DenseTeacher | None = None
    ) -> LossReport:
        """Forward and backward over the micro-batches; gradients are added to those already there. Over several ranks, losses, counts and
        metrics of the report are those of the whole batch, and its arrays those of the rank.

        Args:
            micro_batches: from :meth:`pack`, with the same terms and step.
            dense: the white-box teacher; asked, once a micro-batch, for exactly the positions that divergence terms cover.

        Raises:
            ConfigError: a divergence term and no ``dense``; targets of a learned value and none is kept.
            IncompatibleError: the teacher's vocabulary has another size.
            Any error of ``dense``. After an error nothing is accumulated any more, from earlier calls neither.
        """
        terms = {name: resolved(term, step) for name, term in terms.items()}
        try:
            if names := wanted(terms, micro_batches):
                scores = self._scores(self.model, samples_of(micro_batches), False)
                micro_batches = with_sequence_ratios(micro_batches, names, [found["logprobs"] for found in scores])
            self.model.train()
            measured = self._backward(micro_batches, terms, step, dense)
        except BaseException:
            self.discard()
            raise
        finally:
            self.model.eval()
        report = make_report(measured, terms, step, self.ranks)
        report.metrics.update(self._probed)
        self._probed = {}
        self._pending.append(report)
        return report

    def discard(self) -> None:
        """Forget what was accumulated since the last update."""
        self._pending = []
        self.optimizer.zero_grad(set_to_none=True)
        if self.value_head is not None:
            self.value_head.discard()

    def update(self) -> StepReport:
        """One optimizer step on what was accumulated, clipped to ``clip_norm``; the gradient is empty afterwards. Over several ranks the
        gradients are summed first, so that all take the same step, or skip it for a number that is not finite on one of them.

        Raises:
            NumericsError: this is the ``max_nonfinite``-th step in a row with a loss or gradient that is not finite.
        """
        pending = self._pending
        self.ranks.sum_gradients([*self.trained.values(), *(self.value_head.parameters.values() if self.value_head is not None else ())])
        gradients = [parameter.grad for parameter in self.trained.values() if parameter.grad is not None]
        lr = learning_rate(self.config, self.updates)
        norm = float(torch.nn.utils.get_total_norm(gradients)) if gradients else 0.0
        if not gradients or not any(report.metrics["tokens/forward"] for report in pending):
            self.discard()
            return StepReport(grad_norm=norm, skipped=True, lr=lr, nonfinite_in_a_row=self.nonfinite_in_a_row)
        value_norm = 0.0 if self.value_head is None else float(self.value_head.norm())
        if not (np.isfinite(norm) and np.isfinite(value_norm) and all(np.isfinite(report.total) for report in pending)):
            return self._skip(norm, lr, pending)
        torch.nn.utils.clip_grads_with_norm_(list(self.trained.values()), self.config.clip_norm, torch.tensor(norm, device=self.device))
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        if self.value_head is not None:
            self.value_head.step(self.config.clip_norm)
        self.discard()
        self.updates += 1
        self.nonfinite_in_a_row = 0
        return StepReport(grad_norm=norm, skipped=False, lr=lr, clipped=norm > self.config.clip_norm)

    # --- checkpoints -------------------------------------------------------------------------------------------------

    def state(self) -> tuple[state_.Tensors, dict[str, Any]]:
        """({file: {name: array}}, JSON-able meta): all that :meth:`load_state` needs to go on bit-identically."""
        meta = {
            "format": state_.FORMAT,
            "updates": self.updates,
            "nonfinite_in_a_row": self.nonfinite_in_a_row,
            "nonfinite_total": self.nonfinite_total,
            "fingerprint": self._fingerprint(),
        }
        tensors = state_.dump(self.model, self.optimizer, self._adapters is not None)
        return (tensors if self.value_head is None else {**tensors, VALUE_FILE: self.value_head.state()}), meta

    def load_state(self, tensors: Mapping[str, Mapping[str, Any]], meta: Mapping[str, Any]) -> None:
        """Become the learner that :meth:`state` described. The model must have been built alike.

        Raises:
            StoreError: names, shapes or format do not fit; the learner is unchanged then.
        """
        if meta.get("format") != state_.FORMAT:
            raise StoreError(f"learner state has format {meta.get('format')!r}; this version reads {state_.FORMAT}")
        if self.value_head is not None:
            self.value_head.check(tensors)
        state_.load(self.model, self.optimizer, self._adapters is not None, tensors)
        if self.value_head is not None:
            self.value_head.load_state(tensors[VALUE_FILE])
        self.updates = int(meta["updates"])
        self.nonfinite_in_a_row = int(meta["nonfinite_in_a_row"])
        self.nonfinite_total = int(meta["nonfinite_total"])
        self.discard()
        state_.compare_fingerprints(meta.get("fingerprint", {}), self._fingerprint())

    def save_adapters(self, folder: Path, *, base: str) -> None:
        """The adapters as a PEFT directory; ``base`` is the path or hub id of the model that they go with.

        Raises:
            ConfigError: this learner trains every weight.
        """
        save_lora(self._require_adapters(), folder, base)

    def merged(self) -> Any:
        """The model with its adapters added to the weights, as an ordinary one. The learner is of no use any more.

        Raises:
            ConfigError: this learner trains every weight.
        """
        return self._require_adapters().merge_and_unload()

    def _require_adapters(self) -> Any:
        if self._adapters is None:
            raise ConfigError("this learner trains every weight and has no adapters; give it learner.lora")
        return self._adapters

    # --- inside ------------------------------------------------------------------------------------------------------

    def _fingerprint(self) -> dict[str, Any]:
        return state_.fingerprint(self.device, self.precision.autocast, torch.get_num_threads() if self.device.type == "cpu" else 0)

    def _groups(self) -> list[dict[str, Any]]:
        """Weight decay acts on matrices only."""
        matrices = [parameter for parameter in self.trained.values() if parameter.ndim >= 2]
        others = [parameter for parameter in self.trained.values() if parameter.ndim < 2]
        groups = [{"params": matrices, "weight_decay": self.config.weight_decay}, {"params": others, "weight_decay": 0.0}]
        return [group for group in groups if group["params"]]

    def _require_full_precision(self) -> None:
        half = [name for name, parameter in self.trained.items() if parameter.dtype not in (torch.float32, torch.float64)]
        if half:
            raise ConfigError(
                f"{half[0]!r} and {len(half) - 1} more trained weights are {self.trained[half[0]].dtype}, in which small updates vanish; "
                "load the student with student.dtype=float32 (the computation may still be bfloat16), or train adapters: learner.lora"
            )

    def _backward(
        self, micro_batches: Sequence[MicroBatch], terms: Mapping[str, Term], step: int, dense: DenseTeacher | None
    ) -> list[Measured]:
        measured: list[Measured] = []
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            for number, micro in enumerate(micro_batches):
                torch.manual_seed((self.updates << 20) + number)  # dropout depends on the update alone, so that a resumed run repeats it
                plan = make_plan(
                    micro,
                    terms,
                    step,
                    dense,
                    head=self.head,
                    precision=self.precision,
                    chunk=self.config.chunk_tokens,
                    reference=None if self.reference is None else partial(self._reference_target, micro),
                )
                hidden = flat_hidden(self.model, micro, self.precision)
                if number == 0 and self.config.probe_every and step % self.config.probe_every == 0:
                    self._probed = probe_terms(plan, hidden, k=self.config.probe_k, seed=step)
                token_losses(plan, hidden).backward()  # type: ignore[no-untyped-call]  # torch
                if micro.values and self.value_head is None:
                    raise ConfigError(f"the samples say what the value {next(iter(micro.values))!r} should learn; this learner keeps none")
                if self.value_head is not None:
                    self.value_head.backward(micro, hidden, plan)
                measured.append(Measured.of(micro, plan.to_host()))
        return measured

    def _skip(self, norm: float, lr: float, pending: Sequence[LossReport]) -> StepReport:
        self.discard()
        self.nonfinite_in_a_row += 1
        self.nonfinite_total += 1
        everyone = {sample.episode: None for report in pending for one in report.measured for sample in one.micro.samples}
        if self.ranks.several and not all(np.isfinite(report.total) for report in pending):
            everyone = {}  # the loss of an episode is not finite, on this rank or on another
        guilty = {episode: None for report in pending for episode in report.nonfinite_episodes()} or everyone
        if self.nonfinite_in_a_row >= self.config.max_nonfinite:
            components = {name: value for report in pending for name, value in report.components.items()}
            raise NumericsError(
                f"{self.nonfinite_in_a_row} steps in a row had a loss or gradient that is not finite (gradient norm {norm:g}, losses "
                f"{components}); the weights are those of the last good step. Episodes: {', '.join(list(guilty)[:8])}"
            )
        return StepReport(grad_norm=norm, skipped=True, lr=lr, nonfinite_in_a_row=self.nonfinite_in_a_row, episodes=tuple(guilty))
