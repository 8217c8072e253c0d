"""Groups: what ``group=option`` may pick, and which configuration class judges it.

An option is a YAML file ``<group>/<option>.yaml``, ours or that of an installed package (entry points ``agentdistill.configs``), or a path
to such a file; for the groups of plug-ins also the bare name of a plug-in; for models also a directory or a hub id.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from agentdistill import registry
from agentdistill.config.layers import layer
from agentdistill.config.read import read_yaml
from agentdistill.config.schema import MethodConfig, ModelConfig
from agentdistill.errors import ConfigError, PluginError, unknown
from agentdistill.resources import data_dir
from agentdistill.types import PluginConfig

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, kw_only=True)
class Group:
    """What may be chosen under one key of the configuration."""

    kind: registry.Kind | None = None
    """Entry points of its plug-ins. ``None``: the section has one class, that of the schema."""
    base: type[PluginConfig] = PluginConfig
    """What a plug-in's ``Config`` must be."""
    built_in: Mapping[str, type[PluginConfig]] | None = None
    """Plug-ins of our own whose modules import torch. Their configuration is known without loading them, so composing stays light."""
    model: bool = False
    """A directory or a hub id is an option too."""
    named: bool = True
    """The section has the fields of :class:`PluginConfig`, so it keeps the name of the option."""


GROUPS: Mapping[str, Group] = {
    "env": Group(kind="envs"),
    "student": Group(model=True),
    "teacher": Group(kind="teachers", built_in={"logprob": ModelConfig}, model=True),
    "method": Group(kind="methods", base=MethodConfig, built_in={"objective": MethodConfig}),
    "learner": Group(),
    "rollout": Group(named=False),
}


def options(group: str) -> dict[str, str]:
    """Every option of a group and where it is from. Imports nothing.

    Raises:
        ConfigError: no such group.
    """
    if group not in GROUPS:
        raise ConfigError(unknown("group", group, GROUPS))
    found = {option: origin for option, sources in _files(group).items() for origin, _ in sources}
    kind = GROUPS[group].kind
    if kind is not None:
        for info in registry.list_plugins(kind):
            if info.name:
                found.setdefault(info.name, info.distribution)
    return dict(sorted(found.items()))


def choose(group: str, option: str, origin: str) -> dict[str, Any]:
    """The layer that ``group=option`` stands for; ``origin`` says who chose it.

    Raises:
        ConfigError: no such option, or two packages have one of that name.
    """
    spec = GROUPS[group]
    values, file, name = _option(group, option)
    plugin = values.get("plugin") or _default_plugin(spec, name, is_file=file is not None)
    section = layer(values, file or origin)
    if spec.named:
        section |= layer({"name": name}, origin)
    if spec.kind is not None and "plugin" not in values:
        section |= layer({"plugin": plugin}, file or origin)
    return section


def config_class(group: str, plugin: str) -> type[PluginConfig]:
    """The class that validates the section of a plug-in group.

    Raises:
        ConfigError: no such plug-in.
        PluginError: it does not load, or has no usable ``Config``.
    """
    spec = GROUPS[group]
    if spec.built_in is not None and plugin in spec.built_in:
        return spec.built_in[plugin]
    assert spec.kind is not None
    if plugin not in registry.names(spec.kind):
        raise ConfigError(unknown(f"{group} plug-in", plugin, {*registry.names(spec.kind), *(spec.built_in or ())}))
    found = getattr(registry.resolve(spec.kind, plugin), "Config", None)
    if not (isinstance(found, type) and issubclass(found, spec.base)):
        raise PluginError(f"the {group} {plugin!r} has no class Config that derives from {spec.base.__name__}; add one to it")
    return found


# --------------------------------------------------------------------------------------------------------------------


def _option(group: str, option: str) -> tuple[dict[str, Any], str | None, str]:
    """(values, the YAML file they are from, name)."""
    spec = GROUPS[group]
    if not option.strip():
        raise ConfigError(f"{group}= names nothing; options are {', '.join(options(group))}")
    sources = _files(group).get(option, [])
    if len(sources) > 1:
        raise ConfigError(f"the {group} {option!r} is claimed by {' and '.join(origin for origin, _ in sources)}; uninstall one of them")
    if sources:
        origin, path = sources[0]
        return read_yaml(path), origin, option
    given = Path(option).expanduser()
    if given.suffix in (".yaml", ".yml") and given.is_file():
        return read_yaml(given), option, given.stem
    if spec.kind is not None and option in registry.names(spec.kind):
        return {}, None, option
    if spec.model and (given.is_dir() or (given.suffix.lower() == ".gguf" and given.is_file())):
        return _model(spec, str(given.absolute())), None, option
    if spec.model and _HUB_ID.fullmatch(option):
        return _model(spec, option), None, option
    message = unknown(group, option, options(group))
    raise ConfigError(f"{message} (or a model's directory, a .gguf file, or a hub id like org/name)" if spec.model else message)


def _model(spec: Group, path: str) -> dict[str, Any]:
    return {"path": path} if spec.kind is None else {"path": path, "plugin": "logprob"}


def _default_plugin(spec: Group, option: str, *, is_file: bool) -> str:
    """A method's file without ``plugin`` configures the built-in objective, unless a plug-in has the option's own name."""
    if spec.base is MethodConfig and is_file and option not in registry.names("methods"):
        return "objective"
    return option


def _files(group: str) -> dict[str, list[tuple[str, Path]]]:
    """option -> (origin, file) of each package that has it."""
    found: dict[str, list[tuple[str, Path]]] = {}
    for label, root in [("configs", data_dir("configs")), *_packages()]:
        folder = root / group
        for path in sorted(folder.glob("*.yaml")) if folder.is_dir() else ():
            found.setdefault(path.stem, []).append((f"{label}/{group}/{path.name}", path))
    return found


def _packages() -> list[tuple[str, Path]]:
    """(distribution, directory) of every installed package of configurations, found without running its code. Broken ones are left out."""
    found = []
    for info in registry.list_plugins("configs"):
        top, *rest = info.value.partition(":")[0].split(".")
        try:
            spec = find_spec(top) if top else None
        except (ImportError, ValueError):
            continue
        for place in (spec.submodule_search_locations or ()) if spec else ():
            directory = Path(place, *rest)
            if directory.is_dir():
                found.append((info.distribution, directory))
                break
    return found
