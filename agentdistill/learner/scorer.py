"""What a model says of samples before anything is updated: log-probabilities, entropies, values, and what whole distributions imply."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from agentdistill.config.schema import LearnerConfig, Term
from agentdistill.errors import ConfigError, unknown
from agentdistill.learner.adapters import Reference
from agentdistill.learner.device import Precision
from agentdistill.learner.head import Head
from agentdistill.learner.packing import Index, MicroBatch
from agentdistill.learner.reference import ReferenceTarget
from agentdistill.learner.scoring import flat_hidden, score_streams
from agentdistill.learner.signals import dense_signals, dense_terms
from agentdistill.learner.value import ValueHead
from agentdistill.types import FloatArray, Sample

if TYPE_CHECKING:
    from agentdistill.teacher.protocol import DenseTeacher

WANTS = ("old", "ref", "entropy", "value")


class Scorer:
    """The half of a learner that changes nothing."""

    config: LearnerConfig
    device: torch.device
    model: Any
    head: Head
    precision: Precision
    reference: Reference | None
    value_head: ValueHead | None

    def streams(self, samples: Sequence[Sample], want: Collection[str]) -> list[dict[str, FloatArray]]:
        """What ``want`` names of ``old``, ``ref`` (ln q(y) of the current and the reference policy), ``entropy`` and ``value``
        (``value/<name>`` of each learned value: of the state before the token), for each sample: float32 [L], NaN where nobody sampled.
        One forward for the policy, one for its values and one for the reference.

        Raises:
            ConfigError: an unknown name, ``ref`` of a learner without a reference, or ``value`` of one that learns none.
        """
        for name in want:
            if name not in WANTS:
                raise ConfigError(unknown("stream", name, WANTS))
        found: list[dict[str, FloatArray]] = [{} for _ in samples]
        if "old" in want or "entropy" in want:
            for target, scores in zip(found, self._scores(self.model, samples, "entropy" in want), strict=True):
                target.update({name: scores[source] for name, source in (("old", "logprobs"), ("entropy", "entropy")) if name in want})
        if "ref" in want:
            if self.reference is None:
                raise ConfigError("a term needs the reference policy, which this learner does not keep; construct it with reference=True")
            with self.reference.active() as model:
                for target, scores in zip(found, self._scores(model, samples, False), strict=True):
                    target["ref"] = scores["logprobs"]
        if "value" in want:
            for target, sample in zip(found, self._valued(samples), strict=True):
                target.update({f"value/{name}": stream for name, stream in sample.values.items()})
        return found

    @contextmanager
    def as_it_began(self) -> Iterator[nn.Module]:
        """The policy before training, in evaluation mode and in the learner's own precision; the policy itself is untouched behind it.

        Raises:
            ConfigError: this learner keeps no reference.
        """
        if self.reference is None:
            raise ConfigError("the student as it began is wanted, which this learner does not keep; construct it with reference=True")
        with self.reference.active() as model, self.precision.context():
            training = model.training
            model.eval()
            try:
                yield model
            finally:
                model.train(training)

    def score(self, samples: Sequence[Sample], want: Collection[str]) -> list[Sample]:
        """The samples with ``old_logprobs``, ``ref_logprobs``, ``entropy``, and ``values`` with ``values_after`` filled, as ``want`` names
        them; see :meth:`streams`."""
        fields = {"old": "old_logprobs", "ref": "ref_logprobs", "entropy": "entropy"}
        filled = []
        for sample, found in zip(samples, self.streams(samples, [name for name in want if name != "value"]), strict=True):
            streams: dict[str, Any] = {fields[name]: stream for name, stream in found.items()}
            filled.append(replace(sample, **streams))
        return self._valued(filled) if "value" in want else filled

    def _valued(self, samples: Sequence[Sample]) -> list[Sample]:
        if self.value_head is None:
            raise ConfigError("a learned value is wanted, and this learner has none; construct it with values=learned_values(terms)")
        training = self.model.training
        self.model.eval()
        found = self.value_head.score(samples, lambda micro: flat_hidden(self.model, micro, self.precision), self.config.micro_batch_tokens)
        self.model.train(training)
        return found

    def score_signals(self, samples: Sequence[Sample], terms: Mapping[str, Term], dense: DenseTeacher) -> list[Sample]:
        """The samples with what the teacher signals of policy-gradient terms need of whole distributions; see
        :func:`agentdistill.learner.signals.dense_signals`."""
        return dense_signals(
            self.model,
            samples,
            dense_terms(terms),
            dense,
            head=self.head,
            micro_batch_tokens=self.config.micro_batch_tokens,
            chunk_tokens=self.config.chunk_tokens,
            precision=self.precision,
        )

    @torch.no_grad()
    def _reference_target(self, micro: MicroBatch, index: Index) -> ReferenceTarget:
        """The reference's distributions at the positions ``index`` of a micro-batch, formed a chunk at a time."""
        with self.as_it_began() as model:
            states = flat_hidden(model, micro, self.precision)[torch.as_tensor(index, device=self.device)]
            return ReferenceTarget(Head.of(model, self.head.rows), states, self.precision.product_dtype)

    def _scores(self, model: nn.Module, samples: Sequence[Sample], entropy: bool) -> list[dict[str, FloatArray]]:
        return score_streams(
            model,
            samples,
            micro_batch_tokens=self.config.micro_batch_tokens,
            chunk_tokens=self.config.chunk_tokens,
            precision=self.precision,
            entropy=entropy,
            vocab_size=self.head.rows,
        )
