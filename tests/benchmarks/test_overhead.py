"""The bars of bench_env and bench_render, with room for a busy machine; what grows with the conversation would break the second by far.

Each is measured in a process of its own, so that nothing that watches the tests (line coverage) is measured with it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.ci


def measured(code: str) -> Any:
    """What ``code`` prints as JSON, run beside the benchmarks."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(
        [sys.executable, "-c", f"import json\n{code}"],
        cwd=Path(__file__).parent,
        env=clean,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_our_layer_costs_at_most_twenty_microseconds_a_step():
    costs = measured("import bench_env\nprint(json.dumps({name: run() for name, run in bench_env.cases(steps=3000).items()}))")
    assert costs["AgentEnv, message"] < 20
    assert costs["AgentEnv, text"] < 20
    assert max(costs.values()) < 40, costs


def test_a_turn_costs_the_same_late_in_a_long_conversation():
    early, late = measured(
        "import bench_render as b\nr = b.renderer()\n"
        "print(json.dumps([min(b.per_turn(r, turns) for _ in range(5)) for turns in (17, 128)]))"
    )
    assert late < 1.2, "ms; the bar is 0.6 on an idle machine"
    assert late < 1.5 * early
