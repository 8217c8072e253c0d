"""What is printed and saved reads as YAML and loads as the very same configuration."""

import math
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from pydantic import Field

from agentdistill import registry
from agentdistill.config import compose_train, save_config, show
from agentdistill.config.show import scalar
from agentdistill.types import PluginConfig

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["yes", "1e-3", "null", "1:30", "2020-01-01", "=", "a#b", "~"])
)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=6)


def same(one: object, other: object) -> bool:
    return repr(one) == repr(other)


@given(VALUES)
@settings(deadline=None)
def test_a_value_on_one_line_is_read_back_as_it_was_by_two_readers(value: object) -> None:
    line = f"v: {scalar(value)}  # comment"
    assert "\n" not in line
    assert same(yaml.safe_load(line)["v"], value)
    if "${" not in line:
        assert same(OmegaConf.to_container(OmegaConf.create(line))["v"], value)  # type: ignore[index, call-overload]


class AnyConfig(PluginConfig):
    text: str = ""
    number: float = 0.0
    whole: int = 0
    maybe: float | None = None
    several: tuple[float, ...] = ()
    by_name: dict[str, str] = Field(default_factory=dict)
    path: Path = Path("x")


@pytest.mark.ci
@given(
    st.builds(
        AnyConfig,
        text=st.text() | st.just("${x} and ${"),
        number=st.floats(allow_nan=False),
        whole=st.integers(),
        maybe=st.none() | st.floats(allow_nan=False),
        several=st.lists(st.floats(allow_nan=False), max_size=3).map(tuple),
        by_name=st.dictionaries(st.text(), st.text(), max_size=3),
        path=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).map(Path),
    ),
    st.builds(
        lambda lr, b1, b2: {"lr": lr, "betas": (b1, b2)},
        st.floats(1e-12, 1),
        st.floats(0, 1, exclude_max=True),
        st.floats(0, 1, exclude_max=True),
    ),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
def test_a_saved_configuration_loads_as_an_equal_one(env: AnyConfig, learner: dict[str, object]) -> None:
    registry.register("envs", "anything", type("Env", (), {"Config": AnyConfig}))
    composed = compose_train(["env=anything", "method=gkd"])
    config = composed.config.model_copy(
        update={
            "env": env.model_copy(update={"name": "anything", "plugin": "anything"}),
            "learner": composed.config.learner.model_copy(update=learner),
        }
    )
    composed = type(composed)(config=config, resolved=config.model_dump(mode="json"), origins=composed.origins)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        save_config(path, composed)
        assert compose_train([], base=path).config == config


def test_nan_survives_too(tmp_path: Path) -> None:
    composed = compose_train(["env=toy", "env.ceiling=.nan"])
    save_config(tmp_path / "config.yaml", composed)
    loaded = compose_train([], base=tmp_path / "config.yaml").config.env.model_dump()["ceiling"]
    assert math.isnan(loaded)


def test_show_is_yaml_with_the_origin_behind_each_value() -> None:
    text = show(compose_train(["env=toy", "learner.lr=1e-3"]))
    lines = {line.split(":")[0].strip(): line for line in text.splitlines()}
    assert lines["lr"].split() == ["lr:", "0.001", "#", "command", "line"]
    assert lines["title"].endswith("# configs/method/opd.yaml")
    assert lines["ceiling"].split() == ["ceiling:", ".inf", "#", "default"]
    assert lines["by_name"].split()[:2] == ["by_name:", "{}"]
    assert yaml.safe_load(text)["learner"]["lr"] == 1e-3
    assert text.startswith("# agentdistill ")


@pytest.mark.parametrize(
    ("value", "text"), [(1e-05, "1.0e-05"), (1e22, "1.0e+22"), (0.1, "0.1"), (True, "true"), ("nano", "nano"), ("no", '"no"')]
)
def test_scalars_are_written_so_that_people_can_read_them(value: object, text: str) -> None:
    assert scalar(value) == text
