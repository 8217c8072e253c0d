"""The presets by name, as their files have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from agentdistill.config.schema import MethodConfig
from agentdistill.resources import data_dir

FOLDER = Path(data_dir("configs")) / "method"
PRESETS = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def preset(name: str, **changes: Any) -> MethodConfig:
    values: Any = OmegaConf.to_container(OmegaConf.load(FOLDER / f"{name}.yaml"))
    return MethodConfig(name=name, **(values | changes))
