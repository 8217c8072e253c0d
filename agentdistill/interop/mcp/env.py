"""MCPEnv: a question, the tools of a server, and a verdict on the answer.

    user       How many open issues has the project?
    assistant  -> list_issues(state="open")
    tool       [{"number": 7, …
    assistant  12                                   reward 1, the end

    mistakes of the model's (bad arguments, isError, a call that takes too long)    told to it
    faults of the server (it dies, hangs, or does not speak the protocol)           cost the episode; the next one has a fresh server

Unless ``env.share`` says otherwise every episode has a server of its own, so that what one changes no other can see. The tools are those
that the server lists when the episode begins.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from agentdistill.env import EnvConfig, Observation, Reply, ToolError
from agentdistill.errors import AgentDistillError, ConfigError, EnvError, unknown
from agentdistill.interop.calling import ForeignToolEnv
from agentdistill.interop.foreign import require_answer
from agentdistill.interop.mcp.client import Client, Late, Listed, Refused, shown
from agentdistill.interop.mcp.http import HttpTransport
from agentdistill.interop.mcp.stdio import StdioTransport
from agentdistill.interop.mcp.tasks import Check, grader_named, load, right
from agentdistill.interop.schemas import ForeignTool, foreign_tools
from agentdistill.taskset import TaskSet
from agentdistill.types import Message, NameOrPath, Task, Views

_NO_SERVER = "env 'mcp' needs a server: env.command=[python, server.py] starts one, env.url=http://… speaks to a running one"


class MCPConfig(EnvConfig):
    """What env=mcp can be told."""

    tasks: NameOrPath = ""
    """A .jsonl file of questions and answers, or a folder of train.jsonl, val.jsonl and test.jsonl."""
    command: tuple[str, ...] = ()
    """A server that is a program: ``[python, server.py]``. It runs with few variables of our environment; see ``variables``."""
    url: str = ""
    """A server that runs already, over streamable HTTP: ``http://localhost:8000/mcp``."""
    cwd: NameOrPath = ""
    """Folder in which ``command`` runs. Empty: where we are."""
    variables: dict[str, str] = Field(default_factory=dict)
    """Environment variables of ``command``."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Of every HTTP request, for instance ``Authorization``."""
    share: bool = False
    """One server for all episodes of this process: faster, and right only where a call changes nothing that another episode can see."""
    allow: tuple[str, ...] = ()
    """Only these tools. Empty: all."""
    deny: tuple[str, ...] = ()
    """Not these tools."""
    call_timeout: float = Field(default=30.0, gt=0)
    """Seconds that one call may take; one that takes longer is told to the model."""
    start_timeout: float = Field(default=30.0, gt=0)
    """Seconds that a server may take to start."""
    check: Check = "exact"
    """How an answer is compared: the same words (exact), the same number (value), somewhere within (contains), or as a pattern (regex)."""
    grader: str = ""
    """A function of your own instead, ``package.module:function``: (answer, task, messages) to a reward."""
    system: str = "Use the tools, then reply with the answer alone."
    """What the system says first. Empty: nothing."""
    tries: int = Field(default=1, ge=1)

    @field_validator("command", mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError(f"command must be a list of words, for instance [{', '.join(value.split()) or 'python, server.py'}]")
        return value

    @field_validator("url")
    @classmethod
    def _address(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError(f"url={value!r} must begin with http:// or https://, for instance http://localhost:8000/mcp")
        return value

    @model_validator(mode="after")
    def _one_server(self) -> Self:
        if self.command and self.url:
            raise ValueError("command= starts a server and url= speaks to a running one; give one of the two")
        if self.grader and self.check != "exact":
            raise ValueError(f"grader= judges the answers, so check={self.check} does nothing; leave one out")
        return self


class MCPEnv(ForeignToolEnv):
    """Questions that are answered with the tools of an MCP server."""

    Config = MCPConfig
    name = "mcp"
    config: MCPConfig

    def __init__(self, config: MCPConfig | Mapping[str, Any] | None = None, **settings: Any) -> None:
        super().__init__(config, **settings)
        self._own: Client | None = None
        self._tools: dict[str, ForeignTool] | None = None

    @classmethod
    def load_tasks(cls, config: MCPConfig, split: str) -> TaskSet:
        if not config.command and not config.url:
            raise ConfigError(_NO_SERVER)
        if config.grader:
            grader_named(config.grader)
        tasks = load(config.tasks, split, env=cls.name, system=config.system, check=None if config.grader else config.check)
        require_answer(f"mcp {config.model_dump_json()}", cls(config)._listed_once)
        return tasks

    def _listed_once(self) -> None:
        try:
            self.foreign_tools()
        finally:
            self.close()

    # ---- the server ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _server(self, *, fresh: bool) -> Iterator[Client]:
        """The server, for one conversation with it. A failed one is closed.

        Args:
            fresh: where there is none, or a dead one, one is started; else that is a fault.
        """
        holder = _shared(self.config) if self.config.share else None
        client = self._own if holder is None else holder.take(self.config)
        try:
            if client is None or not client.transport.alive:
                if not fresh:
                    raise EnvError(client.transport.explain("has ended between two calls") if client else "the server was closed")
                if client is not None:
                    client.transport.close()
                client = None
                client = _connect(self.config)
            yield client
        except EnvError as error:
            if client is not None:
                client.transport.close()
                client = None
            raise EnvError(f"env 'mcp': {error}") from error
        finally:
            if holder is None:
                self._own = client
            else:
                holder.put(client)

    def foreign_tools(self) -> Mapping[str, ForeignTool]:
        if self._tools is None:
            with self._server(fresh=True) as client:
                self._tools = foreign_tools((tool.name, tool.description, tool.schema) for tool in _chosen(self.config, client.tools()))
        return self._tools

    def begin(self, task: Task) -> Observation:
        if self._own is not None and self._own.used:
            self._hang_up()
        self._tools = None
        self.foreign_tools()
        self.wrong = 0
        """Wrong answers so far."""
        return task.prompt

    def call(self, tool: ForeignTool, arguments: dict[str, Any]) -> str:
        with self._server(fresh=self.config.share) as client:
            try:
                text, failed = shown(client.call(tool.name, arguments, self.config.call_timeout))
            except Refused as error:
                raise ToolError(str(error)) from error
            except Late as error:
                if not client.answers(min(5.0, self.config.call_timeout)):
                    raise EnvError(client.transport.explain(f"hangs in a call of {tool.name!r}")) from error
                raise ToolError(f"{tool.spec.name} took longer than {self.config.call_timeout:g} s and was given up") from error
        if failed:
            raise ToolError(text or "the tool failed and says nothing")
        return text or "(nothing)"

    def _hang_up(self) -> None:
        if self._own is not None:
            self._own.transport.close()
            self._own = None

    def close(self) -> None:
        """End the server, unless others share it."""
        self._hang_up()
        super().close()

    # ---- the answer -----------------------------------------------------------------------------------------------------

    def answer(self, message: Message) -> Reply:
        reward = self._judge(message.content)
        success = reward >= 1.0 if self.config.grader else reward > 0
        parts = {"answer": reward}
        if success:
            return Reply(parts=parts, done=True, success=True)
        self.wrong += 1
        if self.wrong < self.config.tries:
            return Reply(messages=(Message.user("Wrong. Try again."),), parts={"answer": 0.0})
        return Reply(parts=parts, done=True, success=False)

    def _judge(self, said: str) -> float:
        if not self.config.grader:
            return float(right(self.config.check, said, self.task.answer))
        grader = grader_named(self.config.grader)
        try:
            reward = float(grader(said, self.task, tuple(self.messages)))
        except AgentDistillError:
            raise
        except Exception as error:
            raise EnvError(f"env 'mcp': the grader {self.config.grader!r} failed: {type(error).__name__}: {error}") from error
        if not math.isfinite(reward):
            raise EnvError(f"env 'mcp': the grader {self.config.grader!r} gave {reward}; give a finite number")
        return reward

    def views(self) -> Views:
        answer = self.task.answer
        first = answer[0] if isinstance(answer, list) and answer else answer
        told = None if first is None or self.config.check == "regex" else str(first)
        return Views(answer=told, feedback="The last answer is wrong." if self.wrong else None)


# ---- servers ----------------------------------------------------------------------------------------------------------------


def _connect(config: MCPConfig) -> Client:
    """A server that has shaken hands.

    Raises:
        EnvError: it does not, and with it its last words.
        ConfigError: there is no such program.
    """
    if not config.command and not config.url:
        raise ConfigError(_NO_SERVER)
    transport = (
        HttpTransport(config.url, headers=config.headers)
        if config.url
        else StdioTransport(config.command, cwd=config.cwd, variables=config.variables)
    )
    client = Client(transport, config.start_timeout)
    try:
        client.start()
    except EnvError as error:
        told = str(error) if "MCP server" in str(error) else transport.explain(f"is of no use: {error}")
        transport.close()
        raise EnvError(told) from error
    except BaseException:
        transport.close()
        raise
    return client


def _chosen(config: MCPConfig, tools: Sequence[Listed]) -> list[Listed]:
    """Those that the configuration lets through.

    Raises:
        ConfigError: it names one that the server does not have.
    """
    names = [tool.name for tool in tools]
    for name in (*config.allow, *config.deny):
        if name not in names:
            raise ConfigError(f"env.allow and env.deny: {unknown('tool of the MCP server', name, names)}")
    return [tool for tool in tools if (not config.allow or tool.name in config.allow) and tool.name not in config.deny]


class _Holder:
    """One server for many environments. Whoever has taken it has it alone."""

    def __init__(self) -> None:
        self._place: SimpleQueue[Client | None] = SimpleQueue()
        self._place.put(None)

    def take(self, config: MCPConfig) -> Client | None:
        seconds = config.start_timeout + 10 * config.call_timeout
        try:
            return self._place.get(timeout=seconds)
        except Empty:
            raise EnvError(f"env 'mcp': the shared server was busy for {seconds:g} s; leave env.share out") from None

    def put(self, client: Client | None) -> None:
        self._place.put(client)


_HOLDERS: dict[str, _Holder] = {}


def _shared(config: MCPConfig) -> _Holder:
    key = config.model_dump_json(include={"command", "url", "cwd", "variables", "headers"})
    return _HOLDERS.setdefault(key, _Holder())


def close_shared() -> None:
    """End every shared server; they end with the process otherwise."""
    for holder in _HOLDERS.values():
        with suppress(Empty):
            client = holder._place.get_nowait()
            if client is not None:
                client.transport.close()
            holder.put(None)
