"""env=gymnasium: any Gymnasium environment that text can play, by its id.

env.id=FrozenLake-v1        one that Gymnasium knows
env.id=my.module:Maze-v0    my.module is imported first, and registers it
env.id=my.module:Maze       a class, registered or not; one of the old gym will do

user       the observation, or the world's own drawing (render mode ``ansi``)
assistant  right                        the text itself, or read as an action of the space (see spoken.py)
user       the next observation
"""

from __future__ import annotations

import inspect
import json
import re
import warnings
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal

import gymnasium
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit
from pydantic import Field, JsonValue

from agentdistill.env import Observation, Reply
from agentdistill.errors import AgentDistillError, ConfigError, EnvError, PluginError, unknown
from agentdistill.interop.chance import Chance, may_draw
from agentdistill.interop.foreign import imported, seeded
from agentdistill.interop.spoken import NoAction, Speech
from agentdistill.interop.texts import readable, unpainted
from agentdistill.interop.world import WorldConfig, WorldEnv, number, stub
from agentdistill.taskset import TaskSet
from agentdistill.types import Message, Task

TOY_ACTIONS = {
    "FrozenLake": ("left", "down", "right", "up"),
    "CliffWalking": ("up", "right", "down", "left"),
    "Taxi": ("south", "north", "east", "west", "pickup", "dropoff"),
    "Blackjack": ("stick", "hit"),
}
"""Names of the actions of Gymnasium's toy texts, as its documentation has them."""


class GymnasiumConfig(WorldConfig):
    """What env=gymnasium can be told."""

    id: str = "FrozenLake-v1"
    """As ``gymnasium.make`` takes it; or ``module:Class``."""
    kwargs: dict[str, JsonValue] = Field(default_factory=dict)
    """Given to the environment when it is made."""
    options: dict[str, JsonValue] | None = None
    """Given to its ``reset``."""
    actions: tuple[str, ...] = ()
    """Names of the actions of a Discrete space, in order. Empty: numbers, or the documented names of Gymnasium's toy texts."""
    show: Literal["auto", "ansi", "observation", "both"] = "auto"
    """What the model reads: the drawing of render mode ``ansi``, the observation, or both. ``auto``: the drawing where there is one and the
    observation has no text of its own."""
    on_invalid: Literal["retry", "end"] = "retry"
    """After a reply that is no action: say so and go on, at the price of a turn, or end the episode as failed."""
    invalid_reward: float = Field(default=0.0, allow_inf_nan=False)
    """Reward of a reply that is no action."""


class GymnasiumEnv(WorldEnv):
    """A foreign Gymnasium environment, played in words.

    An episode succeeded where the world's last info says so (``is_success`` or ``success``), else where its return reaches
    ``success_at``, and without that where its return is positive.
    """

    Config = GymnasiumConfig
    name = "gymnasium"
    config: GymnasiumConfig

    _world: World | None = None

    @classmethod
    def load_tasks(cls, config: GymnasiumConfig, split: str) -> TaskSet:
        tasks = seeded(config.id, split, config.count, lambda id, seed: stub(cls.name, id, seed, config.id))
        _try(config.model_dump_json(include={"id", "kwargs", "actions", "show"}))
        return tasks

    def begin(self, task: Task) -> Observation:
        self.close()
        self._total, self._steps = 0.0, 0
        seed = int(str(task.data["seed"]))
        self._world = world = World(self.config, Chance(seed))
        return self.opening(world.reset(seed, self.config.options), world.speech.help)

    def answer(self, message: Message) -> Reply:
        world = self._world
        assert world is not None, "an episode is running"
        try:
            text, reward, terminated, truncated, info = world.step(message.content)
        except NoAction as error:
            over = self.config.on_invalid == "end"
            return Reply(
                messages=self.said(str(error)), parts={"invalid": self.config.invalid_reward}, done=over, success=False if over else None
            )
        self._total += reward
        ended = terminated or truncated
        success = self._judged(info) if ended or self.turns_left <= 0 else None
        return Reply(messages=self.said(text), parts={"world": reward}, done=terminated, cut=truncated and not terminated, success=success)

    def _judged(self, info: Mapping[str, Any]) -> bool:
        for key in ("is_success", "success"):
            if info.get(key) is not None:
                return bool(info[key])
        return self.verdict(self._total)

    def close(self) -> None:
        world, self._world = self._world, None
        if world is not None:
            world.close()


class World:
    """One foreign environment: made, seeded, stepped and read, with random states of its own."""

    def __init__(self, config: GymnasiumConfig, chance: Chance, *, quiet: bool = True) -> None:
        """
        Args:
            quiet: what it warns of was told before.

        Raises:
            ConfigError: there is none of that id, it does not take the keyword arguments, or text cannot play it.
        """
        self._chance = chance
        with chance.own(), warnings.catch_warnings():
            if quiet:
                warnings.simplefilter("ignore")
            self._env, self._limit = _make(config)
        core = getattr(self._env, "unwrapped", self._env)
        named = config.actions or TOY_ACTIONS.get(config.id.split(":")[-1].split("-v")[0], ())
        if not isinstance(space := getattr(self._env, "action_space", None), spaces.Space):
            raise ConfigError(f"env.id={config.id!r} has no Gymnasium action_space, got {type(space).__name__}")
        usable = config.actions or (isinstance(space, spaces.Discrete) and len(named) == space.n)
        self.speech = Speech(space, named if usable else ())
        self._free = isinstance(space, spaces.Text)
        modes = (getattr(self._env, "metadata", None) or {}).get("render_modes") or ()
        draws = getattr(core, "render_mode", None) == "ansi"
        if config.show in ("ansi", "both") and not draws:
            raise ConfigError(
                f"env.id={config.id!r} cannot draw itself as text (its render modes: {', '.join(modes) or 'none'}); use env.show=auto"
            )
        telling = _has_text(getattr(self._env, "observation_space", None))
        self._drawing = draws and (config.show in ("ansi", "both") or (config.show == "auto" and not telling))
        self._telling = config.show in ("observation", "both") or not self._drawing
        self._draws_chance = may_draw(core)
        self._steps = 0

    def reset(self, seed: int, options: Mapping[str, Any] | None) -> str:
        """Start over; the first words."""
        self._steps = 0
        with self._chance.own():
            takes = _parameters(self._env.reset)
            if "seed" not in takes and callable(old := getattr(self._env, "seed", None)):
                old(seed)
            given = {"seed": seed, "options": None if options is None else dict(options)}
            result: Any = self._env.reset(**{key: value for key, value in given.items() if key in takes})
            observation = result[0] if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], Mapping) else result
            return self._words(observation)

    def step(self, text: str) -> tuple[str, float, bool, bool, Mapping[str, Any]]:
        """What the world makes of a reply: words, reward, terminated, truncated, info.

        Raises:
            NoAction: it is no action of the world's.
            EnvError: the world returned no step.
        """
        action = self.speech.read(text)
        if self._draws_chance:
            with self._chance.own():
                return self._step(action)
        return self._step(action)

    def _step(self, action: Any) -> tuple[str, float, bool, bool, Mapping[str, Any]]:
        try:
            result = self._env.step(action)
        except (AssertionError, ValueError, gymnasium.error.Error) as error:  # of text that its space does not hold: the model's mistake
            if not self._free or self._env.action_space.contains(action):
                raise
            raise NoAction(f"That is no action: {str(error)[:200] or type(error).__name__}") from error
        if not isinstance(result, tuple) or len(result) not in (4, 5):
            raise EnvError(
                f"its step must return five things, or four as in the old gym, got {type(result).__name__} {readable(result)[:80]!r}"
            )
        observation, reward, terminated, *rest = result
        info = rest[-1] if isinstance(rest[-1], Mapping) else {}
        if len(rest) == 2:
            over, cut = bool(terminated), bool(rest[0])
        else:
            cut = bool(terminated) and bool(info.get("TimeLimit.truncated", False))
            over = bool(terminated) and not cut
        self._steps += 1
        cut = cut or (self._limit is not None and self._steps >= self._limit)
        return self._words(observation), number(reward, "its reward"), over, cut, info

    def _words(self, observation: Any) -> str:
        drawing = unpainted(readable(self._env.render())) if self._drawing else ""
        return "\n".join(part for part in (drawing.strip("\n"), readable(observation) if self._telling else "") if part)

    def close(self) -> None:
        with self._chance.own():
            getattr(self._env, "close", lambda: None)()


# --------------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=32)
def _try(config: str) -> None:
    """What is wrong with a configuration is told before anything is played."""
    World(GymnasiumConfig(**json.loads(config)), Chance(0), quiet=False).close()


def _make(config: GymnasiumConfig) -> tuple[Any, int | None]:
    """(the environment without Gymnasium's own standard wrappers, its step limit)."""
    env = f"env.id={config.id!r}"
    try:
        made, limit = _registered(config)
    except AgentDistillError:
        raise
    except TypeError as error:
        raise ConfigError(f"{env} cannot be made with env.kwargs={config.kwargs}: {error}") from error
    except gymnasium.error.DependencyNotInstalled as error:
        raise ConfigError(f"{env} needs a package that is not installed: {error}") from error
    except Exception as error:  # a stranger's constructor can raise anything
        raise PluginError(f"{env} cannot be made: {type(error).__name__}: {error}") from error
    while isinstance(made, OrderEnforcing | PassiveEnvChecker | TimeLimit):
        made = made.env
    return made, limit


def _registered(config: GymnasiumConfig) -> tuple[Any, int | None]:
    module, _, name = config.id.rpartition(":")
    owner = _import(module, config.id) if module else None
    if name not in gymnasium.registry and owner is not None and callable(kind := getattr(owner, name, None)):
        return kind(**_with_drawing(config, getattr(kind, "metadata", None), kind)), None
    spec = _spec(name)
    entry: Any = spec.entry_point
    if isinstance(entry, str):
        entry = gymnasium.envs.registration.load_env_creator(entry)
    limit = spec.max_episode_steps
    kwargs = {**spec.kwargs, **_with_drawing(config, getattr(entry, "metadata", None), entry)}
    made = entry(**kwargs)
    for wrapper in spec.additional_wrappers:
        wrap = gymnasium.envs.registration.load_env_creator(wrapper.entry_point)
        made = wrap(env=made, **(wrapper.kwargs or {}))
    return made, limit


def _spec(id: str) -> EnvSpec:
    """What is registered under an id; for a version that Gymnasium has withdrawn, its newest one, with a warning."""
    try:
        return gymnasium.spec(id)
    except gymnasium.error.DeprecatedEnv as error:
        stem = id.rpartition("-v")[0]
        newest = max((other for other in gymnasium.registry if re.fullmatch(rf"{re.escape(stem)}-v\d+", other)), key=_version, default=None)
        if newest is None:
            raise ConfigError(f"env.id={id!r}: {error}") from error
        warnings.warn(f"this Gymnasium has no {id} any more: {newest} is played", UserWarning, stacklevel=2)
        return gymnasium.spec(newest)
    except gymnasium.error.Error as error:
        known = [other for other in gymnasium.registry if not other.startswith("agentdistill/")]
        raise ConfigError(unknown("Gymnasium environment", id, known)) from error


def _version(id: str) -> int:
    return int(id.rpartition("-v")[2])


def _import(module: str, id: str) -> Any:
    return imported(module, f"env.id={id!r}", "no module {name}; it is imported before the id is looked up")


def _with_drawing(config: GymnasiumConfig, metadata: Any, entry: Any) -> dict[str, Any]:
    """The keyword arguments, with render mode ``ansi`` where it is declared and wanted."""
    modes = (metadata or {}).get("render_modes") or ()
    wanted = config.show != "observation" and "ansi" in modes and "render_mode" in _parameters(entry)
    return {**({"render_mode": "ansi"} if wanted else {}), **config.kwargs}


def _parameters(function: Any) -> set[str]:
    """Names that a callable takes; ``**kwargs`` takes those of Gymnasium."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return set()
    free = {"seed", "options", "render_mode"} if any(each.kind is each.VAR_KEYWORD for each in parameters.values()) else set()
    return free | set(parameters)


def _has_text(space: Any) -> bool:
    if isinstance(space, spaces.Dict):
        return any(map(_has_text, space.spaces.values()))
    if isinstance(space, spaces.Tuple):
        return any(map(_has_text, space.spaces))
    return isinstance(space, spaces.Text)
