"""What a run may be told when it resumes. The rest of its configuration is what it was begun with, so that its records stay true."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentdistill.config import Composed, compose_train
from agentdistill.config.layers import dotted, flatten
from agentdistill.errors import UsageError
from agentdistill.store import newest_checkpoint

LOOP = ("steps", "budget", "checkpoint_every", "keep_checkpoints", "annotate", "track", "eval.every")
"""What happens around the steps."""
MACHINE = (
    "rollout.in_flight",
    "rollout.env_workers",
    "rollout.overlap",
    "learner.device",
    "learner.threads",
    "learner.micro_batch_tokens",
    "learner.chunk_tokens",
    "learner.activation_checkpointing",
    "learner.probe_every",
    "learner.probe_k",
)
"""What changes the numbers of a step by rounding at most."""
PATIENCE = ("rollout.env_timeout", "rollout.env_retries")
"""When an environment that hangs or breaks is given up: what may have to change for a run to go on at all."""
FREE = ("run", "runs_dir", "resume", *LOOP, *MACHINE, *PATIENCE)


def require_same_run(composed: Composed) -> None:
    """Refuse a resumption that would make a run that has checkpoints something other than what it was begun as.

    Raises:
        UsageError: names what differs, what may, and what to do instead; or the run is past the steps that are asked for.
    """
    config = composed.config
    assert config.run is not None, "composing asked for the name"
    run = config.runs_dir / config.run
    checkpoint = newest_checkpoint(run / "checkpoints", verify=False)
    if checkpoint is None:
        return
    saved = compose_train([], base=run / "config.yaml")
    changed = differences(saved.resolved, composed.resolved)
    if changed:
        told = "; ".join(f"{key} was {old}, not {new}" for key, (old, new) in list(changed.items())[:4])
        more = f"; and {len(changed) - 4} more" if len(changed) > 4 else ""
        way_out = "" if saved.config.learner.lora is not None else f" from its weights: student={checkpoint.path}"
        raise UsageError(
            f"run {run.name!r} goes on as it was begun: {told}{more}. Only {', '.join(LOOP)} and what concerns the machine may "
            f"differ. For other settings begin a new run{way_out}"
        )
    if config.steps < checkpoint.step:
        raise UsageError(
            f"run {run.name!r} has taken {checkpoint.step} steps already and steps={config.steps} asks for fewer; ask for at least "
            f"{checkpoint.step}, or measure it with `agentdistill eval run={run.name}`"
        )


def differences(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted key -> (saved, wanted) of every value that differs and is not in :data:`FREE`."""
    before, after = ({dotted(path): value for path, value in flatten(tree)} for tree in (saved, wanted))
    keys = [key for key in {**before, **after} if not any(key == free or key.startswith(f"{free}.") for free in FREE)]
    return {key: (before.get(key), after.get(key)) for key in keys if repr(before.get(key)) != repr(after.get(key))}
