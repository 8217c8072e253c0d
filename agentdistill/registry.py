"""Plug-ins by name, loaded when named and not before.

    distribution ──entry point──> name ──resolve──> class or module
    register() ───────────────────┘

Five kinds, each an entry-point group ``agentdistill.<kind>``: ``envs``, ``methods``, ``teachers``, ``sandboxes``, ``configs``. Listing
reads metadata and imports nothing. Whatever is wrong with one plug-in (its metadata, its import, a name that somebody else has too) is told
when that one is asked for, and harms no other.

A source checkout need not be installed: its own entry points are then read from its ``pyproject.toml``, which also means that an edit there
takes effect at once.
"""

from __future__ import annotations

import configparser
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from agentdistill import __version__
from agentdistill.errors import AgentDistillError, ConfigError, PluginError, unknown

Kind = Literal["envs", "methods", "teachers", "sandboxes", "configs"]
KINDS: tuple[Kind, ...] = get_args(Kind)

T = TypeVar("T")

_OURS = "agentdistill"
_PREFIX = f"{_OURS}."
_NOUNS: dict[str, str] = {"envs": "env", "methods": "method", "teachers": "teacher", "sandboxes": "sandbox", "configs": "config package"}

_registered: dict[tuple[str, str], Any] = {}
_loaded: dict[tuple[str, str, str], Any] = {}
_failures: dict[tuple[str, str, str], str] = {}


@dataclass(frozen=True, kw_only=True)
class PluginInfo:
    """One plug-in as its distribution declares it."""

    name: str
    """Empty where the distribution's entry points cannot be read at all."""
    distribution: str
    """``(registered)``: by :func:`register`, in this process."""
    version: str
    value: str
    """``module:attribute``, or a module."""
    error: str | None = None
    """Why it cannot be used, as far as known. ``None``: nothing is known to be wrong; it may never have been tried."""

    def __str__(self) -> str:
        return f"{self.distribution} {self.version} ({self.value})"


def list_plugins(kind: Kind, *, load: bool = False) -> list[PluginInfo]:
    """Every plug-in of a kind, by name. Imports nothing, unless ``load`` asks to try each one so that its error shows."""
    found: list[PluginInfo] = []
    infos = _declared(kind)
    names = [info.name for info in infos]
    for info in infos:
        error = info.error
        if not error and names.count(info.name) > 1:
            error = _claimed(kind, [other for other in infos if other.name == info.name])
        elif not error and load and info.distribution != REGISTERED:
            try:
                _load(kind, info)
            except PluginError as failure:
                error = str(failure)
        found.append(_with_error(info, error or _failures.get((kind, info.name, info.value))))
    return sorted(found, key=lambda info: (info.name, info.distribution))


def names(kind: Kind) -> tuple[str, ...]:
    """Names that :func:`resolve` knows. Imports nothing."""
    return tuple(sorted({info.name for info in _declared(kind) if info.name}))


def resolve(kind: Kind, name: str) -> Any:
    """The class (for ``configs``: the module) that is called ``name``.

    Raises:
        ConfigError: nobody has that name, or two distributions have it.
        PluginError: it failed to load; the cause is chained and named.
    """
    if (kind, name) in _registered:
        return _registered[kind, name]
    infos = _declared(kind)
    mine = [info for info in infos if info.name == name and name]
    if not mine:
        message = unknown(_NOUNS[kind], name, (info.name for info in infos if info.name))
        unreadable = [f"{info.distribution}: {info.error}" for info in infos if info.error]
        raise ConfigError("; ".join([message, *unreadable]))
    if len(mine) > 1:
        raise ConfigError(_claimed(kind, mine))
    return _load(kind, mine[0])


def register(kind: Kind, name: str, plugin: T) -> T:
    """Give a class a name in this process, for tests and notebooks; a second time replaces the first. Returns ``plugin``.

    Raises:
        ConfigError: an installed distribution has that name.
    """
    if kind not in KINDS:
        raise ConfigError(unknown("kind of plug-in", kind, KINDS))
    for info in _declared(kind):
        if info.name == name and info.distribution != REGISTERED:
            raise ConfigError(f"the {_NOUNS[kind]} {name!r} is already that of {info}; register yours under another name")
    _registered[kind, name] = plugin
    return plugin


def unregister(kind: Kind, name: str) -> None:
    """Forget what :func:`register` did; unknown names are ignored."""
    _registered.pop((kind, name), None)


def refresh() -> None:
    """Read the installed distributions again, after one was installed or removed while this process runs."""
    _installed.cache_clear()
    _loaded.clear()
    _failures.clear()


# --------------------------------------------------------------------------------------------------------------------
# Loading
# --------------------------------------------------------------------------------------------------------------------


def _load(kind: Kind, info: PluginInfo) -> Any:
    key = (kind, info.name, info.value)
    if key not in _loaded:
        try:
            _loaded[key] = importlib.metadata.EntryPoint(info.name, info.value, _PREFIX + kind).load()
        except (Exception, SystemExit) as error:
            told = str(error) if isinstance(error, AgentDistillError) else f"{type(error).__name__}: {error}"
            _failures[key] = f"{_NOUNS[kind]} {info.name!r} of {info} failed to load: {told}"
            raise PluginError(_failures[key]) from error
        _failures.pop(key, None)
    return _loaded[key]


def _claimed(kind: Kind, infos: list[PluginInfo]) -> str:
    owners = " and ".join(str(info) for info in infos)
    return f"the {_NOUNS[kind]} {infos[0].name!r} is claimed by {owners}; uninstall one of them"


def _with_error(info: PluginInfo, error: str | None) -> PluginInfo:
    return PluginInfo(name=info.name, distribution=info.distribution, version=info.version, value=info.value, error=error)


# --------------------------------------------------------------------------------------------------------------------
# Metadata
# --------------------------------------------------------------------------------------------------------------------

REGISTERED = "(registered)"


def _declared(kind: Kind) -> list[PluginInfo]:
    if kind not in KINDS:
        raise ConfigError(unknown("kind of plug-in", kind, KINDS))
    mine = [
        PluginInfo(name=name, distribution=REGISTERED, version="", value=repr(plugin))
        for (owner, name), plugin in _registered.items()
        if owner == kind
    ]
    return mine + [info for group, info in _installed(tuple(sys.path)) if group in (_PREFIX + kind, "")]


@lru_cache(maxsize=4)
def _installed(path: tuple[str, ...]) -> tuple[tuple[str, PluginInfo], ...]:
    """(group, plug-in) of every distribution on the path; group '' where the entry points cannot be read. The first copy of one wins."""
    found = list(_checkout())
    seen = {_OURS} if found else set()
    for distribution in importlib.metadata.distributions(path=list(path)):
        text = _read(distribution, "entry_points.txt")
        if f"[{_PREFIX}" not in text:
            continue
        name = _header(distribution, "Name")
        normal = re.sub(r"[-_.]+", "-", name).lower()
        if normal not in seen:
            seen.add(normal)
            found.extend(_parse(name, _header(distribution, "Version"), text))
    return tuple(found)


def _parse(distribution: str, version: str, text: str) -> Iterator[tuple[str, PluginInfo]]:
    parser = configparser.ConfigParser(delimiters=("=",), comment_prefixes=("#", ";"), interpolation=None)
    parser.optionxform = str  # type: ignore[method-assign, assignment]  # names are case sensitive; configparser documents this assignment
    try:
        parser.read_string(text)
    except configparser.Error as error:
        told = f"its entry points cannot be read: {' '.join(str(error).split())}"
        yield "", PluginInfo(name="", distribution=distribution, version=version, value="", error=told)
        return
    for group in parser.sections():
        if group.startswith(_PREFIX):
            for name, value in parser.items(group):
                yield group, PluginInfo(name=name, distribution=distribution, version=version, value=value.strip())


def _read(distribution: importlib.metadata.Distribution, file: str) -> str:
    try:
        return distribution.read_text(file) or ""
    except (OSError, UnicodeDecodeError):
        return ""


def _header(distribution: importlib.metadata.Distribution, field: str) -> str:
    try:
        return str(distribution.metadata[field] or "unknown")
    except Exception:  # damaged metadata of a stranger: the plug-in is still shown, without that field
        return "unknown"


def _checkout() -> Iterator[tuple[str, PluginInfo]]:
    """Our own entry points, where this package runs from a source checkout."""
    pyproject = Path(__file__).resolve().parent.parent / "pyproject.toml"
    try:
        project = tomllib.loads(pyproject.read_text("utf-8")).get("project", {})
    except (OSError, ValueError):
        return
    if project.get("name") != _OURS:
        return
    for group, entries in project.get("entry-points", {}).items():
        if group.startswith(_PREFIX):
            for name, value in entries.items():
                yield group, PluginInfo(name=name, distribution=_OURS, version=__version__, value=value)
