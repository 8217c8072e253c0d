"""From a conversation to a trace of verifiers, and to its rewards.

What verifiers computes is asynchronous; it runs in an event loop of its own beside us, one for the whole process, because what a judge
keeps (connections, locks) belongs to the loop in which it was made.
"""

from __future__ import annotations

import atexit
import json
import math
from collections.abc import Sequence
from concurrent.futures import Future
from functools import lru_cache
from typing import Any

from agentdistill.errors import EnvError
from agentdistill.interop.foreign import need
from agentdistill.interop.verifiers.load import part
from agentdistill.types import Message, ToolCall


def rewards(task: Any, prompt: Sequence[Message], said: Sequence[Message], seconds: float) -> dict[str, float]:
    """Each reward of a finished conversation, weighted, by name.

    Args:
        task: of verifiers.
        prompt: how it began.
        said: all that came after.
        seconds: that it may take.

    Raises:
        EnvError: it takes longer, fails, or is no number.
    """
    trace = trace_of(task, prompt, said)
    future: Future[Any] = _portal().start_task_soon(task.score, trace)
    try:
        future.result(timeout=seconds)
    except TimeoutError as error:
        future.cancel()
        raise EnvError(f"scoring of task {task.data.idx} took longer than {seconds:g} s") from error
    except Exception as error:  # a stranger's reward can raise anything
        cause = error.__cause__ or error
        raise EnvError(f"scoring of task {task.data.idx} failed: {type(cause).__name__}: {cause}") from error
    found = {name: float(reward.value) for name, reward in trace.rewards.items() if reward is not None}
    if bad := [f"{name}={value}" for name, value in found.items() if not math.isfinite(value)]:
        raise EnvError(f"scoring of task {task.data.idx} gave {', '.join(bad)}; a reward must be finite")
    return found


def trace_of(task: Any, prompt: Sequence[Message], said: Sequence[Message]) -> Any:
    """The conversation as verifiers records one: a chain of nodes, of which the model's are marked as sampled."""
    trace_module, agents, runtimes = part("trace"), part("configs.agent"), part("runtimes")
    trace = trace_module.Trace(
        task=trace_module.TraceTask(type=type(task).__name__, data=task.data, key=task.key, hash=task.hash),
        state=part("state").state_cls(type(task))(),
        agent=trace_module.AgentInfo(config=agents.AgentConfig(runtime=runtimes.SubprocessConfig())),
    )
    node = part("graph").MessageNode
    for index, message in enumerate((*prompt, *said)):
        sampled = message.role == "assistant" and index >= len(prompt)
        trace.nodes.append(node(parent=index - 1 if index else None, message=_said(message), sampled=sampled))
    trace.ok = True
    trace.stop("agent_completed")
    return trace


def _said(message: Message) -> Any:
    types = part("types")
    if message.role == "assistant":
        calls = [types.ToolCall(id=call.id, name=call.name, arguments=_arguments(call)) for call in message.tool_calls]
        return types.AssistantMessage(content=message.content, reasoning_content=message.reasoning, tool_calls=calls or None)
    if message.role == "tool":
        return types.ToolMessage(content=message.content, tool_call_id=message.tool_call_id or "", name=message.name)
    return (types.SystemMessage if message.role == "system" else types.UserMessage)(content=message.content)


def _arguments(call: ToolCall) -> str:
    return call.raw if call.raw is not None else json.dumps(call.arguments)


@lru_cache(maxsize=1)
def _portal() -> Any:
    """An event loop beside us, until the process ends."""
    manager = need("anyio.from_thread", env="verifiers", extra="verifiers").start_blocking_portal()
    portal = manager.__enter__()
    atexit.register(manager.__exit__, None, None, None)
    return portal
