"""The command that a run is begun with again, worked out from its saved configuration."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from agentdistill.config import Composed, compose_train
from agentdistill.config.groups import GROUPS
from agentdistill.config.layers import dotted, flatten
from agentdistill.config.show import scalar
from agentdistill.errors import AgentDistillError


def command_of(composed: Composed) -> str | None:
    """``agentdistill train …`` with the options and fields that give exactly this configuration; ``None``: no words of ours do."""
    wanted = composed.resolved
    base = compose_train([])
    options = {group: wanted[group]["name"] for group in GROUPS if isinstance(wanted.get(group), Mapping) and "name" in wanted[group]}
    words = [f"{group}={name}" for group, name in options.items() if name and name != base.resolved[group]["name"]]
    try:
        words += _fields(compose_train(words).resolved, wanted)
        same = compose_train(words).resolved
    except AgentDistillError:  # an option's file is not there any more
        return None
    return shlex.join(["agentdistill", "train", *words]) if repr(same) == repr(wanted) else None


def _fields(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    before, after = (dict(flatten(tree)) for tree in (found, wanted))
    kept = wanted["method"].get("terms", {})
    words = [f"method.terms.{name}=null" for name in found["method"].get("terms", {}) if name not in kept]
    words += [
        f"{dotted(path)}={scalar(value)}"
        for path, value in after.items()
        if path[0] != "resume" and repr(before.get(path, _GONE)) != repr(value)
    ]
    return words


_GONE = object()
