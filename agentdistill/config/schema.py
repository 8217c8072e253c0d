"""The configuration, as code sees it: one frozen tree. Defaults live here, in the models, and nowhere else.

    TrainConfig
    ├── env       PluginConfig of the chosen environment (its own class, with its own defaults)
    ├── student   ModelConfig
    ├── teacher   PluginConfig of the chosen teacher
    ├── method    MethodConfig: who plays, and a sum of terms
    ├── rollout   RolloutConfig
    ├── learner   LearnerConfig
    └── eval      EvalConfig

How a user's words become this tree: :mod:`agentdistill.config.compose`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SerializeAsAny, model_validator

from agentdistill.config.base import FINITE, Settings
from agentdistill.config.method import MethodConfig, SamplerConfig
from agentdistill.config.schedule import Coefficient, Schedule, at
from agentdistill.config.terms import DivergenceTerm, KLTerm, PolicyGradientTerm, SupervisedTerm, Term
from agentdistill.types import ModelPath, PluginConfig

__all__ = [
    "Coefficient",
    "DivergenceTerm",
    "EvalConfig",
    "EvaluateConfig",
    "KLTerm",
    "LearnerConfig",
    "LoraConfig",
    "MethodConfig",
    "ModelConfig",
    "PolicyGradientTerm",
    "RolloutConfig",
    "SamplerConfig",
    "Schedule",
    "Settings",
    "SupervisedTerm",
    "Term",
    "TrainConfig",
    "at",
]

Device = Literal["auto", "cpu", "cuda", "mps"]
DType = Literal["auto", "float32", "bfloat16"]
Share = Annotated[float, Field(ge=0, lt=1)]
Threads = Annotated[int, Field(ge=1, le=1024)]


# --------------------------------------------------------------------------------------------------------------------
# Models
# --------------------------------------------------------------------------------------------------------------------


class ModelConfig(PluginConfig):
    """A causal language model."""

    path: ModelPath = "nano"
    """``nano``, a directory in Hugging Face form, a GGUF file, or a hub id."""
    dtype: DType = "auto"
    """Of the weights. ``auto``: float32 on CPU and MPS, bfloat16 on CUDA for models that are not trained in full."""


class LoraConfig(Settings):
    """Low-rank adapters through peft; the frozen base serves as reference without a second copy."""

    rank: int = Field(default=32, ge=1)
    alpha: float = Field(default=64.0, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: str | tuple[str, ...] = "all-linear"


# --------------------------------------------------------------------------------------------------------------------
# Loop
# --------------------------------------------------------------------------------------------------------------------


class RolloutConfig(Settings):
    """How episodes are played."""

    batch: int = Field(default=128, ge=1)
    """Episodes a step, a multiple of the method's group size."""
    temperature: float = Field(default=1.0, gt=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_new_tokens: int = Field(default=96, ge=1)
    """Of one completion."""
    max_tokens: int = Field(default=1024, ge=8)
    """Of one episode, prompt and replies included."""
    in_flight: int = Field(default=128, ge=1)
    """Episodes played at the same time."""
    env_workers: int = Field(default=0, ge=0, le=1024)
    """Threads for environments that block. 0: step them in the loop's own thread."""
    env_timeout: float | None = Field(default=None, gt=0)
    """Seconds that one call of an environment may take before it counts as failed; needs ``env_workers``. ``None``: no limit."""
    overlap: bool = False
    """Let the students go on while environments are busy: faster where those are slow, and then two runs of one seed agree but for
    rounding. ``false``: to the bit, with any number of workers."""
    env_retries: int = Field(default=1, ge=0)
    """Fresh tries after an environment or sandbox failed; then the episode is recorded as failed and does not train."""

    @model_validator(mode="after")
    def _timeout_has_threads(self) -> Self:
        if self.env_timeout is not None and self.env_workers == 0:
            raise ValueError(
                f"env_timeout={self.env_timeout:g} needs threads that can be given up; set env_workers=1 or more, or leave it out"
            )
        return self


class LearnerConfig(PluginConfig):
    """How weights move."""

    model_config = FINITE

    lr: float = Field(default=6e-4, gt=0)
    betas: tuple[Share, Share] = (0.9, 0.95)
    """Of AdamW."""
    weight_decay: float = Field(default=0.0, ge=0)
    warmup_steps: int = Field(default=5, ge=0)
    decay_steps: int | None = Field(default=None, ge=1)
    """Updates over which the rate falls linearly from ``lr`` to ``decay_to * lr``, where it stays. It has a horizon of its own, so that a
    run that is resumed for more steps goes on as if it had never stopped. ``None``: constant after the warm-up."""
    decay_to: float = Field(default=0.1, ge=0, le=1)
    clip_norm: float = Field(default=1.0, gt=0)
    micro_batch_tokens: int = Field(default=8192, ge=1)
    """Padded tokens of one forward pass; gradients are accumulated to the global batch."""
    chunk_tokens: int = Field(default=1024, ge=1)
    """Positions whose logits exist at the same time, of student and teacher."""
    updates: int = Field(default=1, ge=1)
    """Optimizer steps on one batch of episodes."""
    device: Device = "auto"
    dtype: DType = "auto"
    """Of the computation. ``auto``: bfloat16 autocast on CUDA, float32 elsewhere."""
    threads: Threads | None = None
    """CPU threads. ``None``: one for models below 20 M parameters, else all cores."""
    activation_checkpointing: bool = False
    lora: LoraConfig | None = None
    probe_every: int = Field(default=0, ge=0)
    """Steps between probes: how far the sampled and the top-k gradient of each divergence term are from the whole one, and how much they
    vary, on one micro-batch (``probe/<term>/…``). 0: never."""
    probe_k: int = Field(default=16, ge=1)
    """Tokens of the top-k gradient that is probed."""
    max_nonfinite: int = Field(default=3, ge=1)
    """Steps in a row with a non-finite loss or gradient before the run stops (exit code 5). Such a step never moves the weights."""


class EvalConfig(Settings):
    """How success on held-out tasks is measured."""

    split: str = "test"
    """For the figures before and after."""
    tasks: int = Field(default=256, ge=1)
    """At most this many tasks, the first ones of the split."""
    every: int = Field(default=10, ge=0)
    """Steps between measurements on ``progress_split``, for the curve. 0: none."""
    every_tokens: int | None = Field(default=None, ge=1)
    """Measure that curve after so many training tokens (see ``budget``) instead of so many steps, and once more at the end.
    ``None``: by steps."""
    progress_split: str = "val"
    progress_tasks: int = Field(default=96, ge=1)
    progress_samples: int = Field(default=0, ge=0)
    """Plays of each of those at temperature 1, beside the greedy one. 0: the curve is of greedy success alone."""
    samples: int = Field(default=1, ge=1)
    """Plays of each task at temperature 1 after training."""
    seed: int | None = Field(default=None, ge=0)
    """Of every held-out play, so that runs of different seeds, and all points of a curve, have the same draws.
    ``None``: the run's own seed, and other draws at each point."""


class TrainConfig(Settings):
    """A training run."""

    run: str | None = None
    """Name of the run. ``None``: env, method and seed, and a number where that is taken."""
    runs_dir: Path = Path("runs")
    resume: bool = False
    seed: int = Field(default=0, ge=0)
    steps: int = Field(default=60, ge=1)
    budget: int | None = Field(default=None, ge=1)
    """Training tokens after which the run ends, at the first step that reaches them; ``steps`` still is the most it takes. They are all
    tokens that the student sampled in training, and of other players' episodes the sampled tokens that it was shown to train on, each
    time it was. ``None``: no such end."""
    checkpoint_every: int = Field(default=10, ge=1)
    keep_checkpoints: int = Field(default=2, ge=1)
    annotate: int = Field(default=8, ge=0)
    """Episodes a step whose per-token annotations are stored for the viewer."""
    track: Literal["none", "tensorboard"] = "none"
    """Where figures go besides the run's own ``metrics.jsonl`` and ``perf.jsonl``."""
    env: SerializeAsAny[PluginConfig]
    student: ModelConfig = ModelConfig()
    teacher: SerializeAsAny[PluginConfig]
    method: SerializeAsAny[MethodConfig]
    learner: LearnerConfig = LearnerConfig()
    rollout: RolloutConfig = RolloutConfig()
    eval: EvalConfig = EvalConfig()

    @model_validator(mode="after")
    def _groups_fit(self) -> Self:
        if self.rollout.batch % self.method.group_size:
            raise ValueError(f"rollout.batch={self.rollout.batch} is not a multiple of method.group_size={self.method.group_size}")
        return self


class EvaluateConfig(Settings):
    """An evaluation of a student, or of a run's newest checkpoint."""

    run: str | None = None
    runs_dir: Path = Path("runs")
    seed: int = Field(default=0, ge=0)
    split: str = "test"
    tasks: int | None = Field(default=None, ge=1)
    """``None``: the whole split."""
    samples: int = Field(default=1, ge=1)
    """Plays of each task at temperature 1, beside the greedy one."""
    env: SerializeAsAny[PluginConfig]
    student: ModelConfig = ModelConfig()
    rollout: RolloutConfig = RolloutConfig()
    device: Device = "auto"
