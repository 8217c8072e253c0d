"""Train one nano model on demonstrations: a small supervised loop of its own, because its optimizer is not the learner's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from agentdistill.nano.recipe import Kind, Shape, Training
from agentdistill.types import Sample


def new_model(tokenizer: PreTrainedTokenizerFast, shape: Shape, seed: int) -> LlamaForCausalLM:
    """An untrained model for the tokenizer."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=shape.positions,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config).float()


def fit(
    model: LlamaForCausalLM,
    demonstrations: Mapping[Kind, Sequence[Sample]],
    training: Training,
    seed: int,
    *,
    report: Callable[[int, float], None] = lambda step, loss: None,
    part: int = 0,
) -> None:
    """Train ``model`` in place; then the same with what comes ``then``.

    Args:
        report: called every 50 steps with the step and the mean loss (nats per token) since the last call.
        part: 0 for the first training, 1 for the second, …; decides the draws.
    """
    hidden = [parameter for name, parameter in model.named_parameters() if parameter.ndim == 2 and "embed" not in name]
    rest = [parameter for name, parameter in model.named_parameters() if parameter.ndim != 2 or "embed" in name]
    optimizers = [
        torch.optim.Muon(hidden, lr=training.muon_lr, weight_decay=0.0),
        torch.optim.AdamW(rest, lr=training.adam_lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    rates = [training.muon_lr, training.adam_lr]
    rng = np.random.default_rng((seed, 7 + part))
    losses: list[float] = []
    model.train()
    for step in range(training.steps):
        loss = batch_loss(model, draw(demonstrations, training, step, rng))
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, rate in zip(optimizers, rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * pace(step, training)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        if (step + 1) % 50 == 0 or step + 1 == training.steps:
            report(step + 1, float(np.mean(losses)))
            losses.clear()
    model.eval()
    if training.then is not None:
        fit(model, demonstrations, training.then, seed, report=report, part=part + 1)


def pace(step: int, training: Training) -> float:
    """Factor of the learning rates at 0-based ``step``."""
    warm = min(1.0, (step + 1) / max(training.warmup, 1))
    fall = training.steps * training.decay
    return warm * min(1.0, (training.steps - step) / max(fall, 1))


def draw(demonstrations: Mapping[Kind, Sequence[Sample]], training: Training, step: int, rng: np.random.Generator) -> list[Sample]:
    """One batch, in the recipe's proportions at this step."""
    expert = 0.0 if step >= training.steps * (1 - training.flawed_tail) else training.expert
    rest = 1 - training.told - training.mended
    shares: dict[Kind, float] = {
        "told": training.told,
        "expert": rest * expert,
        "flawed": rest * (1 - expert),
        "mended": training.mended,
    }
    kinds = list(shares)
    drawn = rng.choice(len(kinds), size=training.batch, p=[shares[kind] for kind in kinds])
    return [demonstrations[kinds[k]][int(rng.integers(len(demonstrations[kinds[k]])))] for k in drawn]


def batch_loss(model: LlamaForCausalLM, samples: Sequence[Sample]) -> torch.Tensor:
    """Mean negative log-likelihood (nats) of the sampled tokens. Rows are right-padded, which causal attention never sees."""
    length = max(len(sample) for sample in samples)
    ids = torch.zeros(len(samples), length, dtype=torch.long)
    targets = torch.full((len(samples), length), -100, dtype=torch.long)
    for row, sample in enumerate(samples):
        tokens = torch.from_numpy(sample.token_ids.astype(np.int64))
        ids[row, : len(sample)] = tokens
        sampled = torch.from_numpy(sample.sampled)
        targets[row, : len(sample)][sampled] = tokens[sampled]
    hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
    wanted = targets[:, 1:]
    chosen = wanted != -100
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[chosen]), wanted[chosen])
