"""Entry points become Gymnasium ids, whoever is imported first, and without importing anything else."""

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import gymnasium
import pytest

from agentdistill import registry
from agentdistill.env import gymnasium_id, mirror_environments
from agentdistill.errors import PluginError

Claim = Callable[..., tuple[str, ...]]


@pytest.fixture
def claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Claim]:
    """Install distributions with entry points for the length of a test, and mirror them."""
    before = set(gymnasium.registry)
    monkeypatch.syspath_prepend(tmp_path)

    def claim(*points: tuple[str, str, str]) -> tuple[str, ...]:
        for owner, name, value in points:
            declare(tmp_path, owner, f"[agentdistill.envs]\n{name} = {value}\n")
        registry.refresh()
        return mirror_environments()

    yield claim
    for id in set(gymnasium.registry) - before:
        del gymnasium.registry[id]
    registry.refresh()


def declare(site: Path, owner: str, entry_points: str) -> None:
    info = site / f"{owner}-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {owner}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)


def run(program: str, *path: Path) -> list[str]:
    """What a fresh interpreter prints."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))}
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


FORGET = "[sys.modules.pop(name) for name in list(sys.modules) if 'agentdistill' in name]"
MAKE = "print(gymnasium.make('agentdistill/math-v0').unwrapped.name)"


@pytest.mark.parametrize(
    "program",
    [
        f"import gymnasium, agentdistill; {MAKE}",
        f"import agentdistill, gymnasium; {MAKE}",
        f"import agentdistill.env, gymnasium; {MAKE}",
        f"import agentdistill; import gymnasium.spaces; import gymnasium; {MAKE}",
        f"import agentdistill, importlib.util; importlib.util.find_spec('gymnasium'); import gymnasium; {MAKE}",
        "import gymnasium; print(gymnasium.make('agentdistill:agentdistill/math-v0').unwrapped.name)",
        f"import sys, agentdistill; {FORGET}; import agentdistill, gymnasium; {MAKE}",
    ],
)
def test_importing_agentdistill_is_enough_in_any_order(program: str) -> None:
    assert run(program) == ["math"]


def test_mirroring_imports_no_plugin_and_nothing_heavy() -> None:
    light = "print(*sorted({'gymnasium', 'numpy', 'pydantic', 'torch', 'importlib.metadata'} & set(sys.modules)))"
    assert run(f"import sys, agentdistill; {light}") == []
    loaded = "print(*sorted({'agentdistill_envs', 'agentdistill.env', 'torch', 'pydantic'} & set(sys.modules)))"
    assert run(f"import sys, agentdistill, gymnasium; assert 'agentdistill/math-v0' in gymnasium.registry; {loaded}") == []


def test_gymnasium_is_left_as_its_own_loader_made_it() -> None:
    program = "gymnasium; print(type(gymnasium.__loader__).__name__, gymnasium.__spec__.loader is gymnasium.__loader__, len(sys.meta_path))"
    plain = run(f"import sys, {program}")
    assert run(f"import sys, agentdistill, {program}") == plain
    assert run(f"import sys, {program.replace('print', 'import agentdistill; print')}") == plain


def test_a_strangers_environment_is_mirrored_as_a_string(claims: Claim) -> None:
    assert claims(("stranger", "desert", "no_such_module.env:Desert")) == ("agentdistill/desert-v0",)
    assert gymnasium.registry[gymnasium_id("desert")].entry_point == "no_such_module.env:Desert"
    assert "no_such_module" not in sys.modules
    assert claims(("stranger", "desert", "no_such_module.env:Desert")) == ()


def test_an_environment_that_does_not_import_harms_no_other(claims: Claim) -> None:
    claims(("stranger", "desert", "no_such_module.env:Desert"))
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        gymnasium.make(gymnasium_id("desert"))
    assert gymnasium.make(gymnasium_id("math")).unwrapped.name == "math"


def test_a_name_that_two_distributions_claim_says_so_when_made(claims: Claim) -> None:
    claims(("one", "twin", "a:B"), ("two", "twin", "c:D"))
    with pytest.raises(PluginError, match=r"'twin' is claimed by (one|two) 1.0 \((a:B|c:D)\) and .*; uninstall one"):
        gymnasium.make(gymnasium_id("twin"))


def test_an_entry_point_that_names_no_class_says_so_when_made(claims: Claim) -> None:
    claims(("one", "module", "a.b"), ("two", "words", "not an entry point!"))
    for name in ("module", "words"):
        with pytest.raises(PluginError, match=f"env '{name}' of .* does not name a class as module:attribute"):
            gymnasium.make(gymnasium_id(name))
    assert gymnasium.make(gymnasium_id("math")).unwrapped.name == "math"


def test_a_name_that_cannot_be_an_id_is_left_out(claims: Claim) -> None:
    assert claims(("one", "not a name", "a:B")) == ()


@pytest.mark.parametrize("damage", ["[agentdistill.envs]\nno equals sign\n", "\x00\xff[", "[agentdistill.envs\n"])
def test_a_distribution_with_damaged_metadata_harms_nobody(tmp_path: Path, damage: str) -> None:
    declare(tmp_path, "damaged", damage)
    for first, second in (("gymnasium", "agentdistill"), ("agentdistill", "gymnasium")):  # pydantic itself fails on some of them
        look = "print(gymnasium.registry['agentdistill/math-v0'].name, gymnasium.make('CartPole-v1').spec.name)"
        assert run(f"import {first}, {second}; {look}", tmp_path) == ["math", "CartPole"]


def test_a_failure_of_ours_is_a_warning_and_gymnasium_is_imported_all_the_same() -> None:
    program = (
        "import warnings, agentdistill, agentdistill.registry as r\n"
        "def fail(*_): raise OSError('disk')\n"
        "r.list_plugins = fail\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    import gymnasium\n"
        "print(*[str(each.message).replace(' ', '_') for each in caught], gymnasium.make('CartPole-v1').spec.id)"
    )
    assert run(program) == ["the_environments_of_agentdistill_are_not_in_gymnasium:_OSError:_disk", "CartPole-v1"]


def test_names_of_this_process_only_are_left_to_their_owner() -> None:
    registry.register("envs", "here-only", object)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert mirror_environments() == ()
    finally:
        registry.unregister("envs", "here-only")


def test_only_one_finder_ever_waits_though_this_module_is_imported_twice() -> None:
    program = f"import sys; before = len(sys.meta_path); import agentdistill; {FORGET}; import agentdistill"
    assert run(f"{program}; print(len(sys.meta_path) - before)") == ["1"]


def test_another_finder_that_waits_in_the_same_way_and_asks_back_does_no_harm() -> None:
    program = (
        "import sys\n"
        "class Other:\n"
        "    asking = False\n"
        "    def find_spec(self, *what):\n"
        "        if self.asking: return None\n"
        "        self.asking = True\n"
        "        found = [finder.find_spec(*what) for finder in sys.meta_path if finder is not self]\n"
        "        self.asking = False\n"
        "        return next((spec for spec in found if spec is not None), None)\n"
        "import agentdistill\n"
        f"sys.meta_path[{{place}}:{{place}}] = [Other()]\nimport gymnasium; {MAKE}"
    )
    for place in ("0", "1"):
        assert run(program.replace("{place}", place)) == ["math"]
