"""Plug-ins by name: found without importing, loaded on demand, and each one's trouble is its own."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentdistill import registry
from agentdistill.errors import ConfigError, PluginError

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a distribution with entry points (and optionally modules) on the path."""

    def install(name: str, entry_points: str, modules: dict[str, str] | None = None, version: str = "1.0", place: str = "site") -> None:
        site = tmp_path / place
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(entry_points)
        for module, text in (modules or {}).items():
            (site / f"{module}.py").write_text(text)
        if str(site) not in sys.path:
            monkeypatch.syspath_prepend(site)
        registry.refresh()

    return install


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    before = set(sys.modules)
    yield
    for name in [name for name in sys.modules if name.startswith("reg_") and name not in before]:
        del sys.modules[name]
    for kind, name in list(registry._registered):
        registry.unregister(kind, name)  # type: ignore[arg-type]
    registry.refresh()


def info(kind: registry.Kind, name: str) -> registry.PluginInfo:
    (found,) = [each for each in registry.list_plugins(kind) if each.name == name]
    return found


def test_the_checkouts_own_entry_points_are_found_without_installing() -> None:
    found = info("envs", "math")
    assert found.distribution == "agentdistill"
    assert found.value == "agentdistill_envs.math:MathEnv"
    assert found.error is None


def test_listing_imports_nothing(install: Install) -> None:
    install("reg-a", "[agentdistill.envs]\nquiet = reg_quiet:Env\n", {"reg_quiet": "class Env: pass"})
    assert info("envs", "quiet").version == "1.0"
    assert "quiet" in registry.names("envs")
    assert "reg_quiet" not in sys.modules


def test_a_name_is_loaded_when_it_is_resolved_and_only_once(install: Install) -> None:
    install("reg-a", "[agentdistill.envs]\nquiet = reg_quiet:Env\n", {"reg_quiet": "class Env: pass"})
    first = registry.resolve("envs", "quiet")
    assert first.__module__ == "reg_quiet"
    assert registry.resolve("envs", "quiet") is first


def test_a_whole_module_can_be_a_plugin(install: Install) -> None:
    install("reg-a", "[agentdistill.configs]\nmine = reg_module\n", {"reg_module": "x = 1"})
    assert registry.resolve("configs", "mine").x == 1


def test_an_unknown_name_is_a_config_error_that_names_the_close_one() -> None:
    with pytest.raises(ConfigError, match=r"no env 'mth'; available: .*math.*did you mean 'math'\?"):
        registry.resolve("envs", "mth")


@pytest.mark.parametrize("body", ["raise RuntimeError('boom')", "import no_such_module_at_all", "import sys; sys.exit(3)", "syntax error("])
def test_a_plugin_that_crashes_on_import_is_a_plugin_error_with_its_cause(install: Install, body: str) -> None:
    install("reg-bad", "[agentdistill.envs]\nbad = reg_bad:Env\n", {"reg_bad": body})
    with pytest.raises(PluginError, match=r"env 'bad' of reg-bad 1.0 \(reg_bad:Env\) failed to load: \w+") as caught:
        registry.resolve("envs", "bad")
    assert caught.value.exit_code == 3
    assert caught.value.__cause__ is not None


def test_a_plugin_that_lacks_its_class_is_a_plugin_error(install: Install) -> None:
    install("reg-bad", "[agentdistill.envs]\nbad = reg_empty:Env\n", {"reg_empty": ""})
    with pytest.raises(PluginError, match="has no attribute 'Env'"):
        registry.resolve("envs", "bad")


def test_a_broken_plugin_is_listed_with_its_error_and_harms_no_other(install: Install) -> None:
    install("reg-bad", "[agentdistill.envs]\nbad = reg_bad:Env\n", {"reg_bad": "raise RuntimeError('boom')"})
    install("reg-good", "[agentdistill.envs]\ngood = reg_good:Env\n", {"reg_good": "class Env: pass"})
    assert info("envs", "bad").error is None, "not tried yet"
    tried = {each.name: each.error for each in registry.list_plugins("envs", load=True) if each.distribution.startswith("reg-")}
    assert tried["good"] is None
    assert "RuntimeError: boom" in (tried["bad"] or "")
    assert info("envs", "bad").error == tried["bad"], "the error is remembered"
    assert registry.resolve("envs", "good").__name__ == "Env"


def test_two_distributions_with_one_name_are_both_named(install: Install) -> None:
    install("reg-one", "[agentdistill.envs]\nsame = reg_one:Env\n")
    install("reg-two", "[agentdistill.envs]\nsame = reg_two:Env\n", version="2.0")
    with pytest.raises(ConfigError, match=r"the env 'same' is claimed by .*reg-one 1.0 .*and.*reg-two 2.0|reg-two 2.0.*reg-one 1.0"):
        registry.resolve("envs", "same")
    errors = [each.error for each in registry.list_plugins("envs") if each.name == "same"]
    assert len(errors) == 2
    assert all(error and "uninstall one of them" in error for error in errors)


def test_the_first_copy_of_a_distribution_on_the_path_counts(install: Install) -> None:
    install("reg-a", "[agentdistill.envs]\nquiet = reg_old:Env\n", place="second")
    install("Reg_A", "[agentdistill.envs]\nquiet = reg_new:Env\n", version="2.0", place="first")
    assert info("envs", "quiet").version == "2.0"


@pytest.mark.parametrize(
    "text", ["[agentdistill.envs]\nno equals sign\n", "[agentdistill.envs]\na = b\na = c\n", "a = b\n[agentdistill.envs]\n"]
)
def test_unreadable_entry_points_are_shown_and_harm_no_other(install: Install, text: str) -> None:
    install("reg-garbled", text)
    install("reg-good", "[agentdistill.envs]\ngood = reg_good:Env\n", {"reg_good": "class Env: pass"})
    garbled = [each for each in registry.list_plugins("envs") if each.distribution == "reg-garbled"]
    assert "cannot be read" in (garbled[0].error or "")
    assert registry.resolve("envs", "good").__name__ == "Env"
    assert "" not in registry.names("envs")
    with pytest.raises(ConfigError, match="reg-garbled: its entry points cannot be read"):
        registry.resolve("envs", "something")


def test_damaged_metadata_does_not_hide_a_plugin(install: Install, tmp_path: Path) -> None:
    install("reg-a", "[agentdistill.envs]\nquiet = reg_quiet:Env\n")
    (tmp_path / "site" / "reg_a-1.0.dist-info" / "METADATA").unlink()
    registry.refresh()
    assert info("envs", "quiet").distribution == "unknown"


def test_entry_points_that_are_not_text_are_passed_over(install: Install, tmp_path: Path) -> None:
    install("reg-a", "")
    (tmp_path / "site" / "reg_a-1.0.dist-info" / "entry_points.txt").write_bytes(b"[agentdistill.envs]\n\xff\xfe")
    registry.refresh()
    assert "math" in registry.names("envs")


def test_register_gives_a_name_and_the_last_registration_counts() -> None:
    class First: ...

    class Second: ...

    assert registry.register("envs", "mine", First) is First
    registry.register("envs", "mine", Second)
    assert registry.resolve("envs", "mine") is Second
    assert info("envs", "mine").distribution == "(registered)"
    assert [each.error for each in registry.list_plugins("envs", load=True) if each.name == "mine"] == [None]
    registry.unregister("envs", "mine")
    registry.unregister("envs", "mine")
    with pytest.raises(ConfigError, match="no env 'mine'"):
        registry.resolve("envs", "mine")


def test_register_does_not_take_an_installed_name() -> None:
    with pytest.raises(ConfigError, match="'math' is already that of agentdistill"):
        registry.register("envs", "math", object)


def test_an_unknown_kind_is_refused() -> None:
    for act in (
        lambda: registry.list_plugins("env"),  # type: ignore[arg-type]
        lambda: registry.register("env", "x", object),  # type: ignore[arg-type]
    ):
        with pytest.raises(ConfigError, match=r"no kind of plug-in 'env'.*did you mean 'envs'"):
            act()


def test_a_package_that_is_not_in_a_checkout_reads_no_pyproject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "__file__", str(tmp_path / "agentdistill" / "registry.py"))
    assert list(registry._checkout()) == []
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "somebody-elses"\n[project.entry-points."agentdistill.envs"]\nx = "y:Z"\n')
    assert list(registry._checkout()) == []
