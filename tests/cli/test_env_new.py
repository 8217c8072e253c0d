"""``agentdistill env new``: what it writes works as it stands, under any name that it takes, and what it refuses it leaves alone."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from agentdistill import registry, resources
from agentdistill.cli import env_new
from agentdistill.cli.env_new import LONGEST, Names
from agentdistill.errors import UsageError

from .conftest import Command

ROOT = Path(__file__).resolve().parents[2]


def tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("given", "env", "package", "prefix"),
    [
        ("box-trail", "box-trail", "box_trail", "BoxTrail"),
        ("Shop", "shop", "shop", "Shop"),
        ("my_big-World2", "my-big-world2", "my_big_world2", "MyBigWorld2"),
    ],
)
def test_a_name_has_three_spellings(given: str, env: str, package: str, prefix: str) -> None:
    assert Names.of(given) == Names(env, package, prefix)


def test_the_package_is_the_template_under_the_new_name(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = command("env", "new", "Box_Trail")
    assert (code, err) == (0, "")
    assert "agentdistill env check box-trail" in out
    folder = tmp_path / "box-trail"
    assert {"pyproject.toml", "README.md", "box_trail/env.py", "tests/test_box_trail.py"} <= tree(folder)
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["agentdistill.envs"] == {"box-trail": "box_trail:BoxTrailEnv"}
    for path in folder.rglob("*.*"):
        assert not path.is_file() or not any(word in path.read_text() for word in ("my-world", "my_world", "MyWorld"))
    assert [path.name for path in tmp_path.iterdir()] == ["box-trail"]


@pytest.mark.ci
@pytest.mark.parametrize("name", ["ab", "Other-Peoples_World", "x" * LONGEST])
def test_what_is_written_passes_its_own_tests_and_the_linters(command: Command, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "made"
    assert command("env", "new", name, "--out", str(folder)).code == 0
    paths = os.pathsep.join([str(folder), str(ROOT), str(ROOT / "envs")])
    tools = [("ruff", "check", "--no-cache", "."), ("ruff", "format", "--no-cache", "--check", ".")]
    if name == "ab":
        tools += [("pytest", "-q", "-p", "no:cacheprovider"), ("mypy", "--cache-dir", str(ROOT / ".mypy_cache"))]
    for words in tools:
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": paths, "MYPYPATH": paths},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("1st", "cannot be the name of an environment; valid are letters"),
        ("a--b", "cannot be the name"),
        ("ends-", "cannot be the name"),
        ("größe", "cannot be the name"),
        ("../up", "cannot be the name"),
        ("", "cannot be the name"),
        ("x" * (LONGEST + 1), f"a name has at most {LONGEST}"),
        ("class", "a word of Python's or YAML's; choose another name"),
        ("No", "a word of Python's or YAML's"),
        ("Math", "there is an environment 'math' already"),
        ("tool", "ToolEnv would hide a class of agentdistill.env"),
        ("json", "Python has a module 'json' already"),
        ("numpy", "Python has a module 'numpy' already"),
        ("tests", "Python has a module 'tests' already"),
    ],
)
def test_a_bad_name_is_refused_and_nothing_written(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = command("env", "new", name)
    assert (code, out) == (2, "")
    assert sentence in err
    assert list(tmp_path.iterdir()) == []


def test_the_name_of_another_packages_environment_is_taken(command: Command, tmp_path: Path) -> None:
    registry.register("envs", "shop", object)
    try:
        assert "there is an environment 'shop' already" in command("env", "new", "shop", "--out", str(tmp_path / "x")).err
    finally:
        registry.unregister("envs", "shop")


def test_nothing_is_overwritten_and_an_empty_folder_is_filled(command: Command, tmp_path: Path) -> None:
    full, file, empty = tmp_path / "full", tmp_path / "file", tmp_path / "empty"
    full.mkdir()
    (full / "mine").write_text("precious")
    file.write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    empty.mkdir()
    for place in (full, file, tmp_path / "link"):
        code, _, err = command("env", "new", "box-trail", "--out", str(place))
        assert (code, "nothing is overwritten; name another folder" in err) == (2, True)
    assert (full / "mine").read_text() == file.read_text() == "precious"
    assert command("env", "new", "box-trail", "--out", str(empty)).code == 0
    assert "pyproject.toml" in tree(empty)


def test_a_failure_midway_leaves_no_half_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, written = Path.write_text, []

    def full(self: Path, *words: str) -> int:
        written.append(self)
        if len(written) > 3:
            raise OSError(28, "No space left on device")
        return real(self, *words)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UsageError, match=r"cannot write .*box-trail': No space left on device; name another folder with --out"):
        env_new.write(Names.of("box-trail"), tmp_path / "new" / "box-trail")
    assert len(written) == 4
    assert list((tmp_path / "new").iterdir()) == []


def test_caches_in_the_checkout_are_no_part_of_the_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("env/my_world/a.py", "env/my_world/__pycache__/a.pyc", "env/.ruff_cache/x"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("")
    monkeypatch.setattr(resources, "data_dir", lambda kind: tmp_path)
    env_new.write(Names.of("shop"), tmp_path / "out")
    assert tree(tmp_path / "out") == {"shop/a.py"}


@pytest.mark.ci
def test_a_wheel_carries_the_template(tmp_path: Path) -> None:
    import zipfile

    words = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    prefix = "agentdistill/_data/templates/env/"
    held = {name.removeprefix(prefix) for name in zipfile.ZipFile(wheel).namelist() if name.startswith(prefix)}
    source = ROOT / "templates" / "env"
    wanted = {name for name in tree(source) if not env_new._made_by_tools(Path(name))}
    assert held >= wanted
    assert {name for name in held - wanted if "_cache" not in name} == set()
