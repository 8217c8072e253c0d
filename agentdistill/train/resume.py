"""What a run may be told when it resumes. The rest of its configuration is what it was begun with, so that its records stay true."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentdistill.config import Composed, compose_train
from agentdistill.config.layers import dotted, flatten
from agentdistill.errors import UsageError
from agentdistill.store import newest_checkpoint

LOOP = ("steps", "checkpoint_every", "keep_checkpoints", "annotate", "track", "eval")
"""What happens around the steps."""
MACHINE = (
    "rollout.in_flight",
    "rollout.env_workers",
    "rollout.env_timeout",
    "rollout.overlap",
    "rollout.env_retries",
    "learner.device",
    "learner.threads",
    "learner.micro_batch_tokens",
    "learner.chunk_tokens",
    "learner.activation_checkpointing",
)
"""What changes the numbers of a step by rounding at most."""
FREE = ("run", "runs_dir", "resume", *LOOP, *MACHINE)


def require_same_run(composed: Composed, run: Path) -> None:
    """Refuse overrides that would make a run that has checkpoints something other than what it was begun as.

    Raises:
        UsageError: names what differs, what may, and what to do instead.
    """
    checkpoint = newest_checkpoint(run / "checkpoints", verify=False)
    if checkpoint is None:
        return
    saved = compose_train([], base=run / "config.yaml").resolved
    changed = differences(saved, composed.resolved)
    if changed:
        told = "; ".join(f"{key} was {old}, not {new}" for key, (old, new) in list(changed.items())[:4])
        more = f"; and {len(changed) - 4} more" if len(changed) > 4 else ""
        raise UsageError(
            f"run {run.name!r} goes on as it was begun: {told}{more}. Only {', '.join(LOOP)} and what concerns the machine may "
            f"differ. For other settings begin a new run from its weights: student={checkpoint.path}"
        )


def require_more_steps(steps: int, done: int, name: str) -> None:
    """Refuse a target that the run has passed.

    Raises:
        UsageError: it has.
    """
    if steps < done:
        raise UsageError(
            f"run {name!r} has taken {done} steps already and steps={steps} asks for fewer; ask for at least {done}, "
            f"or measure it with `agentdistill eval run={name}`"
        )


def differences(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted key -> (saved, wanted) of every value that differs and is not in :data:`FREE`."""
    before, after = ({dotted(path): value for path, value in flatten(tree)} for tree in (saved, wanted))
    keys = [key for key in {**before, **after} if not any(key == free or key.startswith(f"{free}.") for free in FREE)]
    return {key: (before.get(key), after.get(key)) for key in keys if repr(before.get(key)) != repr(after.get(key))}
