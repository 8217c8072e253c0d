"""The part of a causal language model that turns hidden states into logits, taken apart so that it can be applied a chunk at a time.

    ids ──backbone──> hidden [N, H] ──Head──> logits [n, V], for n ≪ N positions at once

Known forms: a linear map with or without bias, a constant scale, a tanh softcap. Anything else is found by comparing with the model's
own logits once, and refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from agentdistill.errors import ConfigError
from agentdistill.policy.products import project


@dataclass(frozen=True, eq=False)
class Head:
    """logits = cap · tanh(scale · (h Wᵀ + b) / cap), without the tanh where there is no cap."""

    weight: Tensor
    """W: [V, H]; the embedding itself where the model ties them."""
    bias: Tensor | None = None
    """b: [V]."""
    scale: float = 1.0
    softcap: float | None = None
    rows: int | None = None
    """Ids that the distribution is over; a head that is padded beyond them is cut there before it is normalised. ``None``: all."""

    @property
    def shared(self) -> tuple[Tensor, Tensor | None]:
        """W and b without the padding, as views whose gradients reach the parameters.

        A head without padding is handed out as it is: the gradient of a view is a second tensor of its size, filled with zeros first.
        """
        if self.rows is None or self.rows == self.weight.shape[0]:
            return self.weight, self.bias
        return self.weight[: self.rows], None if self.bias is None else self.bias[: self.rows]

    @classmethod
    def of(cls, model: Any, rows: int | None = None) -> Head:
        """The head of a Hugging Face causal LM, cut to ``rows``.

        Raises:
            ConfigError: the head is no plain linear layer (for instance because an adapter is on it), or has fewer than ``rows``.
        """
        layer = model.get_output_embeddings()
        if type(layer) is not nn.Linear:
            found = "none" if layer is None else type(layer).__name__
            raise ConfigError(
                f"{type(model).__name__} has no plain linear output head (found: {found}); "
                "the learner needs one, so keep adapters and quantisation off the head (learner.lora.target_modules)"
            )
        if rows is not None and rows > layer.weight.shape[0]:
            raise ConfigError(f"{type(model).__name__} has {layer.weight.shape[0]} output rows for {rows} tokens; resize its embeddings")
        config = model.config
        scale = getattr(config, "logit_scale", None)
        divisor = getattr(config, "logits_scaling", None)
        softcap = getattr(config, "final_logit_softcapping", None)
        return cls(
            weight=layer.weight,
            bias=layer.bias,
            scale=(1.0 if scale is None else float(scale)) / (1.0 if divisor is None else float(divisor)),
            softcap=None if softcap is None else float(softcap),
            rows=rows,
        )

    def logits(self, hidden: Tensor, weight: Tensor | None = None) -> Tensor:
        """[..., H] -> [..., V] in float32, or float64 for a float64 model. ``weight``: W in the dtype of the product."""
        own, bias = self.shared
        product = hidden @ (own if weight is None else weight).T
        logits = product.to(torch.promote_types(product.dtype, torch.float32))
        if bias is not None:
            logits = logits + bias.to(logits.dtype)
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.softcap is not None:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        return logits

    @torch.no_grad()
    def fill(self, hidden: Tensor, weight: Tensor, out: Tensor) -> Tensor:
        """The same for hidden states [n, H], in memory that is already there: ``out`` [n, V], float32 or float64. No gradient."""
        project(hidden, weight, out)
        bias = self.shared[1]
        if bias is not None:
            out.add_(bias)
        if self.scale != 1.0:
            out.mul_(self.scale)
        return out if self.softcap is None else out.div_(self.softcap).tanh_().mul_(self.softcap)

    def pull_back(self, gradient: Tensor, logits: Tensor) -> Tensor:
        """∂/∂(h Wᵀ + b) from ∂/∂logits: [..., V], in place. ``logits`` are overwritten where there is a softcap."""
        if self.softcap is not None:
            gradient.mul_(logits.div_(self.softcap).square_().neg_().add_(1))
        return gradient if self.scale == 1.0 else gradient.mul_(self.scale)


def backbone_of(model: Any) -> nn.Module:
    """The module that maps ids to the hidden states on which the head works.

    Raises:
        ConfigError: the model does not say which of its parts that is.
    """
    backbone = model.base_model
    if not isinstance(backbone, nn.Module) or backbone is model:
        raise ConfigError(f"{type(model).__name__} is no causal language model with a head of its own; expected a *ForCausalLM checkpoint")
    return backbone


def hidden_states(backbone: nn.Module, input_ids: Tensor) -> Tensor:
    """[R, T] ids, right-padded, -> [R, T, H]."""
    output: Tensor = backbone(input_ids=input_ids, use_cache=False).last_hidden_state
    return output


@torch.no_grad()
def check_head(model: Any, head: Head) -> None:
    """Compare ``head`` on the backbone's hidden states with the model's own logits on a few tokens.

    Raises:
        ConfigError: they differ: the model does something to its logits that :class:`Head` does not know.
    """
    ids = torch.arange(4, device=head.weight.device).remainder(head.weight.shape[0]).unsqueeze(0)
    theirs = model(input_ids=ids, use_cache=False).logits.float()[..., : head.rows]
    ours = head.logits(hidden_states(backbone_of(model), ids)).float()
    scale = theirs.abs().max().clamp_min(1.0)
    difference = (ours - theirs).abs().max() / scale
    if not bool(difference < (1e-4 if head.weight.dtype in (torch.float32, torch.float64) else 3e-2)):
        raise ConfigError(
            f"{type(model).__name__} transforms its logits in a way that the learner does not know (they differ by {float(difference):.2g} "
            "of their size); known are bias, scale and softcap. Training it would follow the wrong gradient"
        )


def enable_checkpointing(model: Any) -> None:
    """Recompute each layer's activations in the backward pass instead of keeping them; transformers renamed the switch on the way."""
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    else:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
