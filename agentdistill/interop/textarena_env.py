"""env=textarena: the single-player games of textarena, env.game=TowerOfHanoi-v0.

    user       You are playing Tower of Hanoi. ...        the game's prompt
    assistant  [A C]
    user       what the game says since then; its board   not the whole history again

A game pays at its end. The package draws from the module ``random``, which each episode has to itself here; what it prints is dropped.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from pydantic import Field, JsonValue

from agentdistill.env import Observation, Reply
from agentdistill.errors import ConfigError, PluginError, unknown
from agentdistill.interop.chance import Chance
from agentdistill.interop.foreign import need, seeded
from agentdistill.interop.texts import readable
from agentdistill.interop.world import WorldConfig, WorldEnv, number, stub
from agentdistill.taskset import TaskSet
from agentdistill.types import Message, Task


class TextArenaConfig(WorldConfig):
    """What env=textarena can be told."""

    game: str = "TowerOfHanoi-v0"
    """Id of a single-player game."""
    kwargs: dict[str, JsonValue] = Field(default_factory=dict)
    """Given to the game when it is made."""
    success_at: float | None = 1.0
    """A game that pays at least this succeeded: most pay 1 for a win, and less for a part of it. ``None``: any positive reward."""


class TextArenaEnv(WorldEnv):
    """A single-player game of textarena."""

    Config = TextArenaConfig
    name = "textarena"
    config: TextArenaConfig

    _game: Game | None = None

    @classmethod
    def load_tasks(cls, config: TextArenaConfig, split: str) -> TaskSet:
        tasks = seeded(config.game, split, config.count, lambda id, seed: stub(cls.name, id, seed, config.game))
        _try(config.model_dump_json(include={"game", "kwargs"}))
        return tasks

    def begin(self, task: Task) -> Observation:
        self.close()
        self._game = game = Game(self.config)
        return self.opening(game.reset(int(str(task.data["seed"]))))

    def answer(self, message: Message) -> Reply:
        game = self._game
        assert game is not None, "an episode is running"
        text, done, reward = game.step(message.content)
        success = self.verdict(reward) if done else None
        return Reply(messages=self.said(text), parts={"game": reward} if done else {}, done=done, success=success)

    def close(self) -> None:
        self._game = None


class Game:
    """One game of textarena, seen by its only player."""

    def __init__(self, config: TextArenaConfig) -> None:
        """
        Raises:
            ConfigError: the package is missing, there is no such game, it needs data or a key that is not there, or it is for several.
            PluginError: the game does not load.
        """
        self._config = config
        self._package = need("textarena", env="textarena", extra="textarena")
        self._chance = Chance(0)
        with self._quiet():
            self._env = _make(self._package, config)
        self._core = self._env
        while hasattr(self._core, "env"):
            self._core = self._core.env

    @contextlib.contextmanager
    def _quiet(self) -> Iterator[None]:
        with self._chance.own(), contextlib.redirect_stdout(io.StringIO()):
            yield

    def reset(self, seed: int) -> str:
        """The game's first words."""
        self._chance = Chance(seed)
        with self._quiet():
            try:
                self._env.reset(num_players=1, seed=seed)
            except Exception as error:  # each game refuses a wrong number of players in its own way
                raise ConfigError(
                    f"env.game={self._config.game!r} does not begin for one player ({type(error).__name__}: {error}); this environment "
                    "plays single-player games"
                ) from error
            return self._heard()

    def step(self, text: str) -> tuple[str, bool, float]:
        """(what the game says to a move, whether it is over, what it pays at its end)."""
        with self._quiet():
            done, _ = self._env.step(action=text)
            said = self._heard()
            if not done:
                return said, False, 0.0
            rewards, info = self._paid()
        mine: Any = info.get(0, {})
        reason = readable(mine.get("reason") or "") if isinstance(mine, dict) else ""
        reward: Any = rewards.get(0, 0.0)
        if isinstance(reward, str):  # Countdown, Cryptarithm and Slitherlink of 0.7 hand over reward and reason the wrong way round
            reward, reason = _number_in(reason), reward
        said = said if reason in said else f"{said}\n{reason}"
        return said, True, number(reward, f"the reward of {self._config.game!r}")

    def _paid(self) -> tuple[dict[int, Any], dict[int, Any]]:
        """(rewards, what is known of the game), by player."""
        rewards, info = self._env.close()
        return rewards or {}, info or {}

    def _heard(self) -> str:
        """What was said to the player since the last time; without wrappers, which would tell the whole history again."""
        player, observed = self._core.get_observation()
        if isinstance(observed, str):
            return observed
        return "\n".join(readable(message) for sender, message, *_ in observed if sender != player)


def _number_in(reason: str) -> float:
    """The number that stands where words were expected; 0 where there is none."""
    try:
        return float(reason.rpartition(":")[2])
    except ValueError:
        return 0.0


@lru_cache(maxsize=32)
def _try(config: str) -> None:
    """What is wrong with a configuration is told before anything is played."""
    Game(TextArenaConfig(**json.loads(config))).reset(0)


def _make(package: Any, config: TextArenaConfig) -> Any:
    game = f"env.game={config.game!r}"
    known = package.envs.registration.ENV_REGISTRY
    if config.game not in known:
        raise ConfigError(unknown("game of textarena", config.game, known))
    try:
        return package.make(config.game, **config.kwargs)
    except LookupError as error:  # of nltk
        missing = next((line.strip() for line in str(error).splitlines() if "not found" in line), str(error))
        raise ConfigError(
            f"{game} needs word lists of nltk that are not on this machine ({missing}); where there is a network: "
            "python -m nltk.downloader words averaged_perceptron_tagger_eng"
        ) from error
    except TypeError as error:
        raise ConfigError(f"{game} cannot be made with env.kwargs={config.kwargs}: {error}") from error
    except ValueError as error:  # an absent key of a hosted model, say
        raise ConfigError(f"{game} cannot be played here: {error}") from error
    except Exception as error:  # a stranger's module can raise anything, a syntax error included
        raise PluginError(f"{game} does not load: {type(error).__name__}: {error}") from error
