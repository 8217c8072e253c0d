"""A run's checkpoint: the learner's tensors, and the counters that must survive a restart.

checkpoints/<step>/   model.safetensors config.json tokenizer…   loads with ``from_pretrained`` (with LoRA: adapter.safetensors)
                      optimizer.safetensors meta.json manifest.json (value.safetensors where a value is learned)
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentdistill.errors import StoreError, UsageError
from agentdistill.learner import Learner
from agentdistill.render import Renderer
from agentdistill.store import Checkpoint, Run, list_checkpoints, newest_checkpoint, write_checkpoint
from agentdistill.store.checkpoints import load_checkpoint as read_checkpoint

COUNTERS = "counters"
LEARNER = "learner"


def save_checkpoint(run: Run, learner: Learner, renderer: Renderer, counters: dict[str, Any], *, keep: int) -> None:
    """Write ``checkpoints/<step>/``; the newest ``keep`` stay."""
    tensors, meta = learner.state()
    write_checkpoint(
        run.checkpoints,
        int(counters["step"]),
        tensors,
        {COUNTERS: counters, LEARNER: meta},
        extra_files=_model_files(learner, renderer),
        keep=keep,
    )


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What was read back besides the learner's tensors."""

    counters: dict[str, Any]
    skipped: tuple[str, ...] = ()
    """Newer checkpoints that were passed over, and why."""

    @property
    def step(self) -> int:
        """Steps that were taken."""
        return int(self.counters["step"])


def load_checkpoint(run: Run, learner: Learner, *, step: int | None = None) -> Restored | None:
    """Restore a checkpoint into ``learner``: the newest valid one, or that of ``step``; ``None`` where the run has none.

    Raises:
        UsageError: there is none of ``step``.
        StoreError: checkpoints exist, but none is valid, or it does not fit the learner.
    """
    checkpoint = newest_checkpoint(run.checkpoints) if step is None else _of_step(run, step)
    if checkpoint is None:
        return None
    counters = checkpoint.meta.get(COUNTERS)
    if not isinstance(counters, dict):
        raise StoreError(f"checkpoint {checkpoint.path} has no counters; it was not written by a training run")
    learner.load_state(checkpoint.tensors(), checkpoint.meta[LEARNER])
    return Restored(counters=counters, skipped=checkpoint.skipped)


def _of_step(run: Run, step: int) -> Checkpoint:
    there = list_checkpoints(run.checkpoints)
    if step not in there:
        kept = f"it keeps those of steps {', '.join(map(str, there))}" if there else "it has none at all"
        raise UsageError(f"run {run.name!r} has no checkpoint of step {step}; {kept}")
    return read_checkpoint(run.checkpoints / str(step))


def _model_files(learner: Learner, renderer: Renderer) -> dict[str, bytes]:
    """Configuration and tokenizer in Hugging Face form."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        learner.model.config.save_pretrained(directory)
        renderer.tokenizer.save_pretrained(directory)
        return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}
