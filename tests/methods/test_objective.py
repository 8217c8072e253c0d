"""Presets: each method is configuration, and what cannot train is refused before the first step."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from agentdistill.config.schema import MethodConfig
from agentdistill.errors import ConfigError
from agentdistill.methods.describe import formula, row
from agentdistill.methods.objective import Objective
from agentdistill.resources import data_dir

PRESETS = sorted(path.stem for path in (data_dir("configs") / "method").glob("*.yaml"))


def preset(name: str, **changes) -> MethodConfig:
    values = OmegaConf.to_container(OmegaConf.load(Path(data_dir("configs")) / "method" / f"{name}.yaml"))
    return MethodConfig(name=name, **(values | changes))


def test_the_presets_of_this_release_are_there():
    assert {"sft", "seqkd", "gkd", "opd", "opd_sampled", "grpo", "kdrl"} <= set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_train_and_says_what_it_is(name):
    config = preset(name)
    method = Objective(config)
    assert sum(method.shares_at(0).values()) == pytest.approx(1)
    assert config.title
    assert config.paper
    assert config.signal
    assert config.access
    assert config.granularity


def test_needs_follow_from_the_terms():
    assert Objective(preset("opd_sampled")).needs.teacher_logprobs
    assert not Objective(preset("opd_sampled")).needs.teacher_dense
    assert Objective(preset("opd")).needs.teacher_dense
    assert not Objective(preset("opd")).needs.teacher_logprobs
    assert Objective(preset("gkd")).needs.teacher_dense
    assert Objective(preset("gkd")).needs.teacher_plays
    assert Objective(preset("grpo")).needs.reference
    assert not Objective(preset("grpo")).needs.teacher
    assert Objective(preset("kdrl")).needs.teacher_logprobs
    assert Objective(preset("sft")).needs.expert_plays
    assert Objective(preset("ppo")).needs.values
    assert not Objective(preset("ppo")).needs.teacher
    assert not Objective(preset("grpo")).needs.values


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"terms": {}}, "has no terms"),
        ({"terms": {"t": {"kind": "policy_gradient", "teacher": 1.0, "weight": 0}}}, r"t\.weight is 0"),
        ({"terms": {"t": {"kind": "policy_gradient"}}}, "neither an outcome nor a teacher"),
        ({"terms": {"t": {"kind": "policy_gradient", "teacher": {"start": 0, "end": 0, "steps": 3}}}}, "neither an outcome nor a teacher"),
        ({"terms": {"t": {"kind": "policy_gradient", "outcome": 1.0}}}, "group_size is 1"),
        ({"terms": {"t": {"kind": "supervised"}}}, "nobody makes any"),
        ({"terms": {"t": {"kind": "policy_gradient", "teacher": 1.0, "tokens": "all"}}}, "tokens that the student sampled"),
        ({"sampler": {"student": 0, "expert": 1}}, "student is 0"),
    ],
)
def test_a_term_that_cannot_move_the_weights_is_refused(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Objective(preset("opd", **changes))


def test_k1_cannot_even_be_written_down():
    with pytest.raises(ValueError, match="k2"):
        preset("kdrl", terms={"t": {"kind": "kl_estimate", "against": "teacher", "estimator": "k1"}})


def test_a_learned_value_says_what_it_is_and_what_it_needs():
    config = preset("ppo")
    assert "GAE over turns, γ=1, λ=0.95, learned V" in formula(config)
    assert row("ppo", config)["needs"] == "learned value"
