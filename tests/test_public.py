"""The faces that authors of environments, methods and teachers rely on."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

PUBLIC = {
    "env": "AgentEnv AgentWrapper EnvConfig Expert MessageSpace Observation Reply SPLITS ToolEnv ToolError TurnCost check_env gymnasium_id "
    "mirror_environments tool",
    "policy": "HFPolicy Policy Request ScriptedPolicy WeightSink load_model load_tokenizer resolve_device",
    "teacher": "DenseTarget DenseTeacher LogprobTeacher Teacher",
    "methods": "Method Needs Objective",
}


@pytest.mark.parametrize("package", PUBLIC)
def test_these_names_and_no_others_are_exported(package: str) -> None:
    module = import_module(f"agentdistill.{package}")
    assert set(module.__all__) == set(PUBLIC[package].split())
    assert all(getattr(module, name) is not None for name in module.__all__)
    with pytest.raises(AttributeError):
        _ = module.Nothing


@pytest.mark.parametrize("package", ["policy", "teacher", "env"])
def test_looking_at_a_package_loads_nothing_heavy(package: str) -> None:
    program = f"import sys, agentdistill.{package}; sys.exit(bool({{'torch', 'transformers'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
