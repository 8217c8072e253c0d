"""The random generators that a whole process shares, kept apart for each foreign world.

Many worlds draw from the module ``random``, or from ``numpy.random``. Episodes run interleaved in one process, so each world gets states of
its own, which are swapped in around each call and out again after it:

    with chance.own():              # the shared generators are where this world left them
        world.step(action)
                                    # and now where everybody else left them
"""

from __future__ import annotations

import inspect
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, ModuleType
from typing import Any

import numpy as np

from agentdistill.clock import Mutex

_INSIDE = Mutex()
_SHARED: Any = random.seed.__self__  # type: ignore[attr-defined]  # the instance behind the functions of the module
_NUMPY_FUNCTIONS: list[Any] = [vars(np.random)[name] for name in ("seed", *dir(np.random.RandomState)) if name in vars(np.random)]
_INNOCENT = frozenset({"agentdistill", "numpy", "gymnasium", "builtins", *sys.stdlib_module_names})
"""Packages whose modules are not searched: they draw from generators that they are given."""


class Chance:
    """One world's states of the shared generators."""

    def __init__(self, seed: int, *, numpy: bool = True) -> None:
        """
        Args:
            seed: of the generators at the world's first call.
            numpy: ``numpy.random`` too, which takes 0.2 ms a call; ``random`` alone takes 0.03 ms.
        """
        self._python: Any = random.Random(seed).getstate()
        self._numpy: Any = np.random.RandomState(seed % 2**32).get_state(legacy=False) if numpy else None

    @contextmanager
    def own(self) -> Iterator[None]:
        """Inside, the shared generators are this world's.

        Raises:
            EnvError: another thread is inside, and does not come out.
        """
        with _INSIDE.held():
            python, numpy = random.getstate(), None if self._numpy is None else np.random.get_state(legacy=False)
            random.setstate(self._python)
            if numpy is not None:
                np.random.set_state(self._numpy)
            try:
                yield
            finally:
                self._python = random.getstate()
                random.setstate(python)
                if numpy is not None:
                    self._numpy = np.random.get_state(legacy=False)
                    np.random.set_state(numpy)


def may_draw(world: object) -> bool:
    """Whether the code behind ``world`` mentions a shared generator: its class's modules, and those of their packages that they use."""
    queue = [sys.modules.get(kind.__module__) for kind in type(world).__mro__]
    seen: set[int] = set()
    while queue:
        module = queue.pop()
        if module is None or id(module) in seen or module.__name__.partition(".")[0] in _INNOCENT - {"__main__"}:
            continue
        seen.add(id(module))
        for value in list(vars(module).values()):
            if any(value is shared for shared in (random, np.random)) or _of_shared(value):
                return True
            if isinstance(value, ModuleType):
                queue.append(value)
            elif inspect.isfunction(value) or inspect.isclass(value):
                queue.append(sys.modules.get(value.__module__ or ""))
                if value.__module__ == module.__name__ and any("random" in code.co_names for code in _codes(value)):
                    return True
    return False


def _of_shared(value: Any) -> bool:
    """Whether it is a function of a shared generator, imported by its name."""
    bound = inspect.ismethod(value) or inspect.isbuiltin(value) or type(value).__name__ == "cython_function_or_method"
    return bound and (getattr(value, "__self__", None) is _SHARED or value in _NUMPY_FUNCTIONS)


def _codes(member: Any) -> Iterator[CodeType]:
    """The code of a function, or of all methods of a class, inner functions included."""
    if inspect.isclass(member):
        for each in vars(member).values():
            inner = getattr(each, "__func__", None) or getattr(each, "fget", None) or each
            if inspect.isfunction(inner) or (inspect.isclass(inner) and inner is not member):
                yield from _codes(inner)
    elif inspect.isfunction(member):
        waiting = [inspect.unwrap(member).__code__]
        while waiting:
            yield (code := waiting.pop())
            waiting += [each for each in code.co_consts if isinstance(each, CodeType)]
