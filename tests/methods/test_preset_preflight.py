"""Every preset composes with both worlds that come along, and passes what a run checks before it loads anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentdistill.config import compose_train
from agentdistill.train.preflight import preflight

from .presets import PRESETS, preset

TOLD = {"sdar": ("teacher=self", "teacher.view=answer")}
"""Teachers of presets that want another than the usual one."""


@pytest.mark.parametrize("env", ["math", "tools"])
@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_passes_preflight(name: str, env: str, tmp_path: Path) -> None:
    teacher = TOLD.get(name, ("teacher=nano",))
    config = compose_train([f"env={env}", f"method={name}", *teacher, f"runs_dir={tmp_path}"]).config
    lines = dict(preflight(config).lines)
    assert lines["method"].startswith(f"{name}:")
    assert config.method == preset(name), "verl's distillation: one default by the command line, another by the class"
