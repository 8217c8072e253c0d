"""What an author writes, looked at one hook at a time: its kind before anything runs, and what it returns whenever it is called."""

from __future__ import annotations

import inspect
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from types import FrameType
from typing import TYPE_CHECKING, Any

from agentdistill.env.base import AgentEnv, Reply
from agentdistill.errors import PluginError

if TYPE_CHECKING:
    from agentdistill.env.check.promises import Promises

ON_CLASS = ("load_tasks", "expert")
ON_INSTANCE = ("begin", "respond", "answer", "after_calls", "anchor", "views", "reset", "step", "tool_functions")
PATIENCE = 60.0
"""Seconds that one call may take."""

_REMEDIES = {
    "begin": "begin any task of its own at any time, without outside resources that may be absent, and return its first messages",
    "anchor": "return a string that is equal for equal states, or None",
    "views": "return Views, or None; it is called in every state, after the end too",
}


def kinds(check: Promises) -> None:
    """Ordinary functions where ordinary functions are wanted, class methods where the class is asked."""
    for name in ON_CLASS:
        if inspect.isfunction(inspect.getattr_static(check.kind, name)):
            check.broken(f"{name} is no class method, and the class is asked before there is an instance", f"put @classmethod above {name}")
        _ordinary(check, f"{name}()", getattr(check.kind, name))
    for name in ON_INSTANCE:
        if (found := inspect.getattr_static(check.kind, name, None)) is not None:
            _ordinary(check, f"{name}()", found)
    takes = inspect.signature(check.kind.expert).parameters.values()
    if not any(each.name == "flaws" or each.kind is each.VAR_KEYWORD for each in takes):
        check.broken("expert() does not take 'flaws'", "define it as expert(cls, config, *, flaws=None); it may ignore them")
    habits: Any = check.kind.bad_habits
    numbers = isinstance(habits, Mapping) and all(isinstance(name, str) and isinstance(each, Real) for name, each in habits.items())
    if habits is not None and not numbers:
        check.broken(f"bad_habits is {habits!r}", "give a dict of names and numbers, as expert(config, flaws=...) takes it, or None")


def tool_kinds(check: Promises, env: AgentEnv) -> None:
    """The functions of a :class:`ToolEnv` return what they found."""
    functions: Any = getattr(env, "tool_functions", tuple)()
    for function in functions:
        _ordinary(check, f"tool {getattr(function, '__name__', '?')!r}", function)


def _ordinary(check: Promises, what: str, function: Any) -> None:
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        check.broken(f"{what} is async, and nobody awaits it", "write it with plain 'def', and wait inside for what it needs")
    if inspect.isgeneratorfunction(function):
        check.broken(f"{what} yields, so calling it only makes a generator", "return the whole result, without 'yield'")


def watch(check: Promises, env: AgentEnv) -> AgentEnv:
    """``env``, whose hooks are now judged whenever they are called."""
    own: Any = env
    for name, remedy in _REMEDIES.items():
        setattr(own, name, _guarded(check, name, getattr(own, name), remedy))
    respond = own.respond

    def judged(message: Any) -> Any:
        reply: Any = respond(message)
        if not isinstance(reply, Reply):
            check.broken(f"respond() or answer() returned {_short(reply)}", "return Reply(messages=..., parts=..., done=..., success=...)")
        parts: dict[str, Any] = dict(reply.parts)
        for name, part in parts.items():
            if not isinstance(part, Real):
                check.broken(f"the part {name!r} of the reward is {_short(part)}", "give finite numbers in Reply.parts")
        return reply

    own.respond = judged
    return env


def _guarded(check: Promises, name: str, hook: Callable[..., Any], remedy: str) -> Callable[..., Any]:
    def guarded(*given: Any) -> Any:
        with check.guarded(f"{name}()", remedy):
            found = hook(*given)
        if name == "begin" and not isinstance(found, tuple):
            check.broken(
                f"begin() returned {_short(found)}, no tuple of Message", "return a tuple of the first messages, for instance task.prompt"
            )
        return found

    return guarded


def _short(value: object) -> str:
    text = repr(value)
    return f"a {type(value).__name__}: {text[:60]}{'…' if len(text) > 60 else ''}"


@contextmanager
def patience(check: Promises, doing: str, seconds: float = PATIENCE) -> Iterator[None]:
    """A call that does not come back becomes a broken promise, where this thread can be interrupted (the main one, not on Windows)."""

    def too_long(number: int, frame: FrameType | None) -> None:
        where = f" (it is at {frame.f_code.co_filename}:{frame.f_lineno})" if frame else ""
        raise PluginError(
            f"environment {check.name!r}: {doing} has not returned for {seconds:g} s{where}; "
            "bound its loops, and give whatever it waits for a timeout"
        )

    try:
        before = signal.signal(signal.SIGALRM, too_long)
    except (ValueError, AttributeError):  # not the main thread; no such signal here
        yield
        return
    left = signal.setitimer(signal.ITIMER_REAL, seconds)[0]
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left)
        signal.signal(signal.SIGALRM, before)
