"""The bars of bench_env and bench_render, with room for a busy machine; what grows with the conversation would break the second by far."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.ci


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_our_layer_costs_at_most_twenty_microseconds_a_step():
    measured = {name: measure() for name, measure in load("bench_env").cases(steps=3000).items()}
    assert measured["AgentEnv, message"] < 20
    assert measured["AgentEnv, text"] < 20
    assert max(measured.values()) < 40, measured


def test_a_turn_costs_the_same_late_in_a_long_conversation():
    bench = load("bench_render")
    renderer = bench.renderer()
    early, late = (min(bench.per_turn(renderer, turns) for _ in range(5)) for turns in (17, 128))
    assert late < 1.2, "ms; the bar is 0.6 on an idle machine"
    assert late < 1.5 * early
