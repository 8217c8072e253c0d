"""Who may know whom: the table of the house, held by reading imports.

Each row says what a module of ours may import of ours and of others; whatever a row does not name fails. Modules that do not exist yet are
in the table too. Besides: time and threads only in clock, nothing that runs code from data, and packages that stay light until used.

An import under ``TYPE_CHECKING`` binds types and nothing else; it may name any module of the same level or below, and any third party.
"""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (ROOT / "agentdistill", ROOT / "envs" / "agentdistill_envs")

FREE = {"types", "errors", "clock"}
"""Free to every module that stands above them."""
FREE_THIRD = {"numpy", "pydantic", "pydantic_core", "typing_extensions"}
"""Everywhere: arrays, and what records are made of."""

LEVELS: dict[int, tuple[str, ...]] = {
    0: ("types", "errors", "clock", "losses"),
    1: ("registry", "resources", "taskset", "config", "mirror"),
    2: ("env", "execution", "render", "store"),
    3: ("policy", "teacher", "replay"),
    4: ("rollout", "credit"),
    5: ("methods", "learner"),
    6: ("train",),
    7: ("cli", "nano"),
}
LEVEL = {name: level for level, names in LEVELS.items() for name in names}


def below(level: int) -> set[str]:
    return {name for name, other in LEVEL.items() if other < level}


@dataclass(frozen=True)
class Row:
    ours: set[str] = field(default_factory=set)
    third: set[str] = field(default_factory=set)
    """May be imported anywhere in a file."""
    lazy: set[str] = field(default_factory=set)
    """Only inside functions, or at the top of files of LOADED_ON_DEMAND."""


TABLE: dict[str, Row] = {
    "__init__": Row({"mirror"}),
    "types": Row({"errors", "clock"}),
    "errors": Row({"types", "clock"}),
    "clock": Row({"types", "errors"}),
    "losses": Row({"errors"}, {"torch"}),
    "registry": Row({"resources", "taskset", "config"}),
    "mirror": Row({"registry"}, lazy={"gymnasium"}),
    "resources": Row({"registry", "taskset", "config"}),
    "taskset": Row({"registry", "resources", "config"}),
    "config": Row({"registry", "resources", "taskset"}, lazy={"omegaconf", "yaml"}),
    "env": Row(set(), {"gymnasium"}),
    "execution": Row({"resources"}, lazy={"docker"}),
    "render": Row(set(), lazy={"transformers", "tokenizers", "jinja2"}),
    "store": Row({"resources"}, {"safetensors", "zstandard"}, lazy={"tensorboard"}),
    "policy": Row({"render"}, {"torch", "transformers", "httpx"}, lazy={"vllm", "gguf"}),
    "teacher": Row({"render", "policy"}, {"httpx"}, lazy={"torch", "transformers"}),
    "replay": Row({"resources", "store"}, {"starlette", "uvicorn", "networkx"}),
    "rollout": Row({"env", "policy", "render"}),
    "credit": Row({"losses"}, {"torch", "networkx"}),
    "methods": Row({"config", "credit", "losses", "policy"}, {"torch"}),
    "learner": Row({"config", "credit", "losses", "policy"}, {"torch"}, lazy={"peft"}),
    "train": Row(below(6), {"torch"}, lazy={"ray", "rich"}),
    "cli": Row(below(7) | {"nano"}, lazy={"networkx", "omegaconf", "rich", "torch", "transformers"}),
    "nano": Row(below(7), {"torch"}, lazy={"transformers", "tokenizers"}),
    "agentdistill_envs": Row(
        {"env", "execution", "taskset", "resources"}, {"gymnasium", "networkx"}, lazy={"math_verify", "sympy", "reasoning_gym"}
    ),
    "interop": Row(
        {"env", "taskset", "resources", "registry", "mirror", "agentdistill_envs"},
        {"gymnasium", "httpx"},
        lazy={"anyio", "mcp", "openenv", "reasoning_gym", "skyrl_gym", "textarena", "trl", "verifiers", "websockets"},
    ),
}

EXCEPTIONS: dict[tuple[str, str], str] = {
    ("policy", "resources"): "loading knows that the path 'nano' means a checkpoint of ours",
    ("env", "mirror"): "Gymnasium's ids of environments are part of the public face of env",
    ("env", "registry"): "check_env takes the name of an installed environment",
    ("credit", "config"): "the terms of an objective, for which credit fills in masks and advantages, are the schema's",
}
"""Imports that the table does not foresee, each with its reason. One that nobody needs any more fails."""

LOADED_ON_DEMAND = ("teacher/", "nano/")
"""Folders whose files, but for ``__init__`` and ``protocol``, are imported only when their work is wanted."""

SANCTUARY = "clock"
TIMING = {"time", "threading", "_thread", "sched", "concurrent", "multiprocessing", "asyncio"}
TYPES_OF_TIMING = {"concurrent.futures.Future"}
"""What others may hold in their hands, though only clock makes it."""
NOT_DATA = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
"""Formats whose reading runs code."""


# --------------------------------------------------------------------------------------------------------------------
# Reading
# --------------------------------------------------------------------------------------------------------------------

When = Literal["top", "later", "types"]


@dataclass(frozen=True)
class Import:
    module: str
    """Dotted, as far as the statement says: ``from a import b`` is ``a.b``."""
    line: int
    when: When
    """At import of the file, inside a function, or for type checkers only."""


def imports(tree: ast.AST, package: str = "", when: When = "top") -> Iterator[Import]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, when) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            yield from (Import(f"{source}.{alias.name}", node.lineno, when) for alias in node.names)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imports(node, package, "types" if when == "types" else "later")
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from imports(ast.Module(body=node.body, type_ignores=[]), package, "types")
            yield from imports(ast.Module(body=node.orelse, type_ignores=[]), package, when)
        else:
            yield from imports(node, package, when)


def files() -> Iterator[tuple[str, str]]:
    """(path below the package's parent, text)."""
    for package in PACKAGES:
        for path in sorted(package.rglob("*.py")):
            yield path.relative_to(package.parent).as_posix(), path.read_text("utf-8")


def row_of(file: str) -> str:
    """Name of the file's row: the module below agentdistill, or agentdistill_envs."""
    package, *rest = Path(file).with_suffix("").parts
    if package != "agentdistill":
        return package
    return "cli" if rest[0] == "__main__" else rest[0]


def package_of(file: str) -> str:
    return ".".join(Path(file).parent.parts)


def target(module: str) -> tuple[bool, str]:
    """(ours, name of the row or of the third party)."""
    top, *rest = module.split(".")
    if top == "agentdistill":
        return True, rest[0] if rest else ""
    return top == "agentdistill_envs", top


# --------------------------------------------------------------------------------------------------------------------
# Judging
# --------------------------------------------------------------------------------------------------------------------


def violations(file: str, text: str) -> list[str]:
    """What a file imports or calls that it may not; each as a sentence."""
    tree = ast.parse(text)
    row = row_of(file)
    if row not in TABLE:
        return [f"{file}: agentdistill.{row} has no row in the table of who may know whom"]
    found = []
    for each in imports(tree, package_of(file)):
        if problem := _judge(file, row, each):
            found.append(f"{file}:{each.line}: {problem}")
    return found + [f"{file}:{line}: {problem}" for line, problem in _calls(tree)]


def _judge(file: str, row: str, each: Import) -> str | None:
    ours, name = target(each.module)
    if ours:
        return _judge_ours(row, name, each)
    if name in NOT_DATA:
        return f"{name} runs code from data"
    if name in TIMING and row != SANCTUARY and each.module not in TYPES_OF_TIMING:
        return f"{name} belongs in clock; take a Clock or an Executor"
    if name in sys.stdlib_module_names or name in FREE_THIRD or name in TABLE[row].third or each.when == "types":
        return None
    if name not in TABLE[row].lazy:
        return f"{row} may not import {name}"
    if each.when == "top" and not _on_demand(file):
        return f"{row} may import {name} only inside functions"
    return None


def _judge_ours(row: str, name: str, each: Import) -> str | None:
    free = FREE if LEVEL.get(row, 99) > 0 else set()
    if name in (row, "", "__version__") or name in TABLE[row].ours | free or (row, name) in EXCEPTIONS:
        return None
    if each.when == "types" and LEVEL.get(name, 99) <= LEVEL.get(row, 99):
        return None
    return f"{row} may not import {name}"


def _on_demand(file: str) -> bool:
    inside = file.removeprefix("agentdistill/")
    return inside.startswith(LOADED_ON_DEMAND) and Path(file).stem not in ("__init__", "protocol")


def _calls(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name in ("eval", "exec", "__import__", "torch.load", "torch.save", "yaml.load", "yaml.unsafe_load", "yaml.full_load"):
            yield node.lineno, f"{name} runs code from data"
        if name.split(".")[-1] in ("now", "utcnow", "today") and name.split(".")[-2:-1] in (["datetime"], ["date"]):
            yield node.lineno, f"{name} reads the real time; take a Clock"
        for keyword in node.keywords:
            if keyword.arg in ("allow_pickle", "trust_remote_code") and ast.unparse(keyword.value) != "False":
                yield node.lineno, f"{keyword.arg} runs code from data"


def loaded_with(root: str, texts: dict[str, str]) -> set[str]:
    """Third parties that importing module ``root`` imports: the closure of top-level imports, parents' ``__init__`` included."""
    seen: set[str] = set()
    third: set[str] = set()
    queue = [root]
    while queue:
        module = queue.pop()
        parts = module.split(".")
        for length in range(1, len(parts) + 1):
            stem = "/".join(parts[:length])
            file = next((name for name in (f"{stem}.py", f"{stem}/__init__.py") if name in texts), None)
            if file is None or file in seen:
                continue
            seen.add(file)
            for each in imports(ast.parse(texts[file]), package_of(file)):
                if each.when != "top":
                    continue
                if each.module.split(".")[0] in ("agentdistill", "agentdistill_envs"):
                    queue.append(each.module)
                else:
                    third.add(each.module.split(".")[0])
    return third


# --------------------------------------------------------------------------------------------------------------------
# The house
# --------------------------------------------------------------------------------------------------------------------


def test_every_import_is_in_the_table() -> None:
    found = [problem for file, text in files() for problem in violations(file, text)]
    assert not found, "\n".join(found)


def test_every_exception_is_needed() -> None:
    used = {(row_of(file), target(each.module)[1]) for file, text in files() for each in imports(ast.parse(text), package_of(file))}
    present = {row_of(file) for file, _ in files()}
    assert [pair for pair in EXCEPTIONS if pair[0] in present and pair not in used] == []


@pytest.mark.parametrize(
    "root",
    [
        "agentdistill",
        "agentdistill.cli.main",
        "agentdistill.config",
        "agentdistill.config.schema",
        "agentdistill.registry",
        "agentdistill.taskset",
        "agentdistill.env",
        "agentdistill.render",
        "agentdistill.store",
        "agentdistill.policy.protocol",
        "agentdistill.teacher.protocol",
        "agentdistill.replay",
        "agentdistill_envs.math",
    ],
)
def test_a_light_module_loads_neither_torch_nor_transformers(root: str) -> None:
    assert loaded_with(root, dict(files())) & {"torch", "transformers", "vllm", "ray"} == set()


def test_the_command_line_starts_without_pydantic_numpy_and_omegaconf() -> None:
    assert loaded_with("agentdistill.cli.main", dict(files())) & {"pydantic", "numpy", "omegaconf", "gymnasium", "rich"} == set()


def test_the_runner_inside_the_sandbox_uses_the_standard_library_alone() -> None:
    for path in sorted((ROOT / "sandbox").rglob("*.py")):
        for each in imports(ast.parse(path.read_text("utf-8"))):
            assert each.module.split(".")[0] in sys.stdlib_module_names, f"{path}:{each.line} imports {each.module}"


def test_sizes_are_reported() -> None:
    """Guidance, so it warns: a function over 120 lines or a file over 400 is more than one reader holds in mind."""
    large = []
    for file, text in files():
        if (lines := text.count("\n")) > 400:
            large.append(f"{file} has {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno and (length := node.end_lineno - node.lineno + 1) > 120:
                large.append(f"{file}:{node.lineno} {node.name} has {length} lines")
    if large:
        warnings.warn("; ".join(large), stacklevel=1)


# --------------------------------------------------------------------------------------------------------------------
# The judge
# --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("agentdistill/losses/x.py", "from agentdistill.types import Episode"),
        ("agentdistill/losses/x.py", "import transformers"),
        ("agentdistill/env/x.py", "from agentdistill.learner import Learner"),
        ("agentdistill/env/x.py", "from agentdistill.taskset import TaskSet"),
        ("agentdistill/env/x.py", "from agentdistill import taskset"),
        ("agentdistill/env/x.py", "import torch"),
        ("agentdistill/env/x.py", "def f():\n    import torch"),
        ("agentdistill/env/x.py", "from ..learner import Learner"),
        ("agentdistill/env/x.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from agentdistill.learner import Learner"),
        ("agentdistill/render/x.py", "import transformers"),
        ("agentdistill/teacher/protocol.py", "import torch"),
        ("agentdistill/teacher/__init__.py", "import torch"),
        ("agentdistill/config/x.py", "import omegaconf"),
        ("agentdistill/rollout/x.py", "from agentdistill.teacher.protocol import Teacher"),
        ("agentdistill/train/x.py", "from agentdistill.cli import main"),
        ("agentdistill/replay/x.py", "def f():\n    import torch"),
        ("agentdistill/types/x.py", "import agentdistill.config.schema"),
        ("agentdistill/unheard_of.py", ""),
        ("agentdistill_envs/x/env.py", "from agentdistill.rollout import play"),
        ("agentdistill/rollout/x.py", "import time"),
        ("agentdistill/rollout/x.py", "from time import sleep"),
        ("agentdistill/rollout/x.py", "def f():\n    import threading"),
        ("agentdistill/rollout/x.py", "from concurrent.futures import ThreadPoolExecutor"),
        ("agentdistill/store/x.py", "import datetime\ndatetime.datetime.now()"),
        ("agentdistill/store/x.py", "import pickle"),
        ("agentdistill/learner/x.py", "import torch\ntorch.load('x')"),
        ("agentdistill/learner/x.py", "import numpy\nnumpy.load('x', allow_pickle=True)"),
        ("agentdistill/policy/x.py", "f(trust_remote_code=config.trust)"),
        ("agentdistill_envs/math/x.py", "eval('1+1')"),
        ("agentdistill/config/x.py", "def f():\n    import yaml\n    yaml.load('x', yaml.Loader)"),
    ],
)
def test_a_violation_is_found(file: str, text: str) -> None:
    assert len(violations(file, text)) == 1


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("agentdistill/losses/x.py", "import torch, math, numpy\nfrom agentdistill.errors import NumericsError"),
        (
            "agentdistill/env/x.py",
            "import gymnasium\nfrom agentdistill.types import Message\nfrom . import base\nfrom .base import AgentEnv",
        ),
        ("agentdistill/env/x.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from agentdistill.taskset import TaskSet"),
        ("agentdistill/render/x.py", "def f():\n    import transformers"),
        ("agentdistill/render/x.py", "import typing\nif typing.TYPE_CHECKING:\n    import transformers"),
        ("agentdistill/teacher/logprob.py", "import torch"),
        ("agentdistill/clock.py", "import time, threading"),
        ("agentdistill/rollout/x.py", "from concurrent.futures import Future"),
        ("agentdistill/train/x.py", "from agentdistill.learner import Learner\nimport torch"),
        ("agentdistill/learner/x.py", "model.eval()"),
        ("agentdistill/policy/x.py", "f(trust_remote_code=False)"),
        ("agentdistill_envs/math/env.py", "from agentdistill.taskset import TaskSet\nfrom agentdistill_envs.math.expert import act"),
    ],
)
def test_what_the_table_allows_passes(file: str, text: str) -> None:
    assert violations(file, text) == []


def test_the_closure_follows_packages_and_leaves_functions_and_types_out() -> None:
    texts = {
        "agentdistill/__init__.py": "",
        "agentdistill/a/__init__.py": "from agentdistill.a.b import c",
        "agentdistill/a/b.py": "import heavy\ndef f():\n    import lazy",
        "agentdistill/d.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import agentdistill.a\nelse:\n    import light",
    }
    assert loaded_with("agentdistill.a.e", texts) == {"heavy"}
    assert loaded_with("agentdistill.d", texts) == {"typing", "light"}
