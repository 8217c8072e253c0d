"""Environments under Gymnasium's own roof: ``gymnasium.make("agentdistill/<name>-v0")``.

    import agentdistill ──> is gymnasium imported? ──yes──> mirror the registry's names, as strings
                                   └──no──> wait on sys.meta_path for the import of gymnasium, and mirror behind it

Gymnasium 1.x loads no entry points itself, so those of the group ``agentdistill.envs`` are written into its registry. Nothing is imported
for that: neither Gymnasium by us (a command that needs no environment starts without it), nor a plug-in before somebody makes its
environment. Whatever is wrong with one plug-in is told when that one is made, and harms no other.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn


def gymnasium_id(name: str) -> str:
    """The id of environment ``name``."""
    return f"agentdistill/{name}-v0"


def mirror_environments() -> tuple[str, ...]:
    """Register every installed environment that Gymnasium does not know yet; returns their ids.

    One that cannot be used (two distributions claim its name, or its entry point is no ``module:attribute``) is registered too, and says so
    when it is made. A name that cannot be an id is left out.
    """
    import gymnasium

    from agentdistill import registry

    added: list[str] = []
    for plugin in registry.list_plugins("envs"):
        id = gymnasium_id(plugin.name)
        if not plugin.name or plugin.distribution == registry.REGISTERED or id in gymnasium.registry:
            continue
        try:
            gymnasium.register(id, entry_point=_entry_point(plugin))
        except gymnasium.error.Error:
            continue
        added.append(id)
    return tuple(added)


def mirror_with_gymnasium() -> None:
    """Mirror now where Gymnasium is imported, else as soon as it is."""
    if sys.modules.get("gymnasium") is not None:
        _mirror_or_warn()
    else:
        _stop_waiting()
        sys.meta_path.insert(0, _WaitingForGymnasium())


# --------------------------------------------------------------------------------------------------------------------


def _entry_point(plugin: Any) -> str | Callable[..., NoReturn]:
    """What Gymnasium loads: a string where that works."""
    target = re.match(r"([\w.]+)\s*:\s*(\w+)\s*(?:\[.*\])?$", plugin.value)
    if plugin.error is None and target is not None:
        return f"{target[1]}:{target[2]}"
    return _Unusable(plugin.error or f"the entry point of env {plugin.name!r} of {plugin} does not name a class as module:attribute")


class _Unusable:
    """Stands for an environment that cannot be loaded."""

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  Gymnasium reads it before calling

    def __init__(self, message: str) -> None:
        self._message = message

    def __call__(self, **_: Any) -> NoReturn:
        from agentdistill.errors import PluginError

        raise PluginError(self._message)


def _mirror_or_warn() -> None:
    """Nothing of ours may break an import of Gymnasium."""
    try:
        mirror_environments()
    except Exception as error:
        warnings.warn(
            f"the environments of agentdistill are not in gymnasium: {type(error).__name__}: {error}", RuntimeWarning, stacklevel=2
        )


def _stop_waiting() -> None:
    """Remove the finder, also one of an earlier import of this module that was thrown away, as coverage tools do."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__qualname__ != _WaitingForGymnasium.__qualname__]


class _WaitingForGymnasium:
    """A finder that finds nothing of its own: it hands Gymnasium's import on to the others, and mirrors when it is done."""

    _asking = False
    """Another finder of this kind, of whoever else waits for Gymnasium, may ask back."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "gymnasium" or self._asking:
            return None
        self._asking = True
        try:
            found = (finder.find_spec(name, path, target) for finder in list(sys.meta_path) if finder is not self)
            spec = next((each for each in found if each is not None), None)
        finally:
            self._asking = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Followed(spec.loader)  # type: ignore[assignment]  # the import system asks for these two methods only
        return spec


class _Followed:
    """Gymnasium's own loader, with the mirror behind it."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        created: ModuleType | None = self._loader.create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        _stop_waiting()
        _mirror_or_warn()
