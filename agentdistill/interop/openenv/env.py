"""OpenEnvEnv: an environment that runs on an OpenEnv server.

user       <the observation of reset>                 a single text as it is, else JSON
assistant  <the action>                               text, or a call of a tool: as the server's schema of actions has it
user       <the next observation>                     reward and done are the server's

what the server says is wrong with an action          told to the model
no answer, a broken connection, a server without room   costs the episode; the next one connects anew
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field, JsonValue, field_validator

from agentdistill.env import EnvConfig, Observation, Reply, ToolError
from agentdistill.errors import ConfigError, EnvError
from agentdistill.interop.calling import ForeignToolEnv
from agentdistill.interop.foreign import require_answer, seeded
from agentdistill.interop.openenv.acting import Acting, acting, called, readable, tools_listed
from agentdistill.interop.openenv.wire import BadAction, Seen, Session, addresses, require_listener, schema_of
from agentdistill.interop.schemas import ForeignTool, clean
from agentdistill.taskset import TaskSet
from agentdistill.types import Message, Task


class OpenEnvConfig(EnvConfig):
    """What env=openenv can be told."""

    url: str = ""
    """Of the server: ``http://localhost:8000`` or ``ws://localhost:8000``."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Of the connection, for instance ``Authorization``."""
    count: int = Field(default=1000, ge=1)
    """Tasks of a split; each is a seed."""
    reset: dict[str, JsonValue] = Field(default_factory=dict)
    """What every reset is told beside the seed."""
    actions: Literal["auto", "text", "tool", "mcp"] = "auto"
    """How the model acts: its text is the action, or it calls a tool, or the environment's own tools. auto: as the schema says."""
    text_field: str = ""
    """The action's field that takes the text. Empty: the only one that can. With ``actions=text`` the server's schema is not asked for."""
    system: str = ""
    """What the system says first. Empty: nothing."""
    connect_timeout: float = Field(default=10.0, gt=0)
    """Seconds for connecting."""
    message_timeout: float = Field(default=60.0, gt=0)
    """Seconds for each answer."""
    place_timeout: float = Field(default=5.0, ge=0)
    """Seconds that a server without room is asked again."""
    success_at: float | None = 1.0
    """Reward of an episode from which on it counts as success, once the server says it is done. ``None``: there is no notion of success."""

    @field_validator("url")
    @classmethod
    def _address(cls, value: str) -> str:
        if value:
            addresses(value)
        return value


class OpenEnvEnv(ForeignToolEnv):
    """An OpenEnv server."""

    Config = OpenEnvConfig
    name = "openenv"
    config: OpenEnvConfig

    def __init__(self, config: OpenEnvConfig | Mapping[str, Any] | None = None, **settings: Any) -> None:
        super().__init__(config, **settings)
        self.success_when_cut = None if self.config.success_at is None else False  # type: ignore[misc]  # a class's in general, ours by configuration
        self._session: Session | None = None
        self._acting: Acting | None = None
        self._tools: Mapping[str, ForeignTool] | None = None
        self._after = Reply()
        """What the last action brought beside its result."""
        self._total = 0.0

    @classmethod
    def load_tasks(cls, config: OpenEnvConfig, split: str) -> TaskSet:
        if not config.url:
            raise ConfigError("env 'openenv' needs a server: set env.url, for instance env.url=http://localhost:8000")
        system = (Message.system(config.system),) if config.system else ()
        require_answer(f"openenv {config.model_dump_json()}", cls(config)._asked_once)

        def make(id: str, seed: int) -> Task:
            return Task(id=id, env=cls.name, prompt=(*system, Message.user("(what the server says at reset)")), data={"seed": seed})

        return seeded("openenv", split, config.count, make)

    def _asked_once(self) -> None:
        try:
            require_listener(self.config.url, self.config.connect_timeout)
            self.foreign_tools()
        finally:
            self.close()

    # ---- the episode --------------------------------------------------------------------------------------------------

    def begin(self, task: Task) -> Observation:
        self._hang_up()
        self._tools, self._after, self._total = None, Reply(), 0.0
        try:
            session = self._connected()
            seen = session.reset(seed=task.data["seed"], **self.config.reset)
            self.foreign_tools()
        except BaseException:
            self._hang_up()
            raise
        if seen.done:
            self._hang_up()
            raise EnvError(f"{session.base}: the episode of seed {task.data['seed']} is done before it has begun")
        system = tuple(message for message in task.prompt if message.role == "system")
        return (*system, Message.user(clean(readable(seen.observation)) or "Begin."))

    def step(self, action: Message | str) -> Any:
        try:
            result = super().step(action)
        except EnvError:
            self._hang_up()
            raise
        if self.over:
            self._hang_up()  # its place on the server is for others
        return result

    def respond(self, message: Message) -> Reply:
        self._after = Reply()
        reply = super().respond(message)
        return replace(reply, done=True, success=self._after.success) if self._after.done else reply

    def answer(self, message: Message) -> Reply:
        how = self._how()
        if how.kind != "text":
            return Reply(messages=(Message.user(f"Call a tool to act; there are: {', '.join(self.foreign_tools())}."),))
        try:
            seen = self._act({how.text_field: clean(message.content)})
        except BadAction as error:
            return Reply(messages=(Message.user(f"Error: {self._shown(clean(str(error)))[0]}"),))
        text, _ = self._shown(clean(readable(seen.observation)))
        says = () if seen.done and not text else (Message.user(text or "(nothing)"),)
        return Reply(messages=says, parts=self._after.parts, done=self._after.done, success=self._after.success)

    def call(self, tool: ForeignTool, arguments: dict[str, Any]) -> str:
        mcp = self._how().kind == "mcp"
        try:
            seen = self._act({"type": "call_tool", "tool_name": tool.name, "arguments": arguments} if mcp else arguments)
        except BadAction as error:
            raise ToolError(str(error)) from error
        text, failed = called(seen.observation) if mcp else (readable(seen.observation), False)
        if failed:
            raise ToolError(text)
        return text or "(nothing)"

    def after_calls(self, results: Any) -> Reply:
        return self._after

    def closed(self) -> str | None:
        return "the episode is over" if self._after.done else None

    def _act(self, action: dict[str, Any]) -> Seen:
        if self._session is None:
            raise EnvError("the session was closed")
        seen = self._session.step(action)
        self._total += seen.reward
        reward = self._after.parts.get("reward", 0.0) + seen.reward
        verdict = None if self.config.success_at is None or not seen.done else self._total >= self.config.success_at - 1e-9
        self._after = Reply(parts={"reward": reward}, done=seen.done, success=verdict)
        return seen

    # ---- how to act -----------------------------------------------------------------------------------------------------

    def _how(self) -> Acting:
        if self._acting is None:
            config = self.config
            asks = config.actions != "mcp" and not (config.actions == "text" and config.text_field)
            schema = schema_of(config.url, config.connect_timeout)["action"] if asks else {}
            self._acting = acting(schema, wanted=config.actions, text_field=config.text_field)
        return self._acting

    def foreign_tools(self) -> Mapping[str, ForeignTool]:
        if self._tools is None:
            how = self._how()
            self._tools = self._listed() if how.kind == "mcp" else how.tools
        return self._tools

    def _listed(self) -> Mapping[str, ForeignTool]:
        idle = self._session is None
        session = self._connected()
        try:
            return tools_listed(session.step({"type": "list_tools"}).observation)
        except BadAction as error:
            raise EnvError(f"{session.base} does not list its tools: {error}; set env.actions=text or env.actions=tool") from error
        finally:
            if idle:
                self._hang_up()

    def _connected(self) -> Session:
        if not self.config.url:
            raise ConfigError("env 'openenv' needs a server: set env.url")
        if self._session is None:
            config = self.config
            self._session = Session(
                config.url,
                connect_seconds=config.connect_timeout,
                seconds=config.message_timeout,
                place_seconds=config.place_timeout,
                headers=config.headers,
            )
        return self._session

    def _hang_up(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def close(self) -> None:
        """Give the place on the server back."""
        self._hang_up()
        super().close()
