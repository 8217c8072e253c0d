"""Foreign worlds of the kinds that people write: sloppy, old, odd."""

from __future__ import annotations

import random
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces


class Echo(gymnasium.Env):
    """Text in, text out: say 'stop'."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    def __init__(self, word: str = "stop") -> None:
        self.word = word
        self.observation_space = self.action_space = spaces.Text(200)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return f"Say {self.word!r} ({self.np_random.integers(100)}).", {}

    def step(self, action):
        over = action.strip() == self.word
        return f"You said {action[:20]!r}.", float(over), over, False, {}


class Strict(Echo):
    """Refuses what its space does not hold."""

    def step(self, action):
        assert self.action_space.contains(action), "letters and digits only"
        return super().step(action)


class GlobalChance(Echo):
    """Draws from the generators that the process shares, in reset and in step."""

    def reset(self, *, seed=None, options=None):
        random.seed(seed)
        np.random.seed((seed or 0) % 2**32)
        return f"{random.random()} {np.random.rand()}", {}

    def step(self, action):
        return f"{random.random()} {np.random.normal()}", 0.0, False, False, {}


class Scalars(Echo):
    """Numpy scalars, arrays of one, and bytes everywhere."""

    def reset(self, *, seed=None, options=None):
        return np.bytes_(b"caf\xc3\xa9 \xff"), {}

    def step(self, action):
        return (
            np.str_("seen"),
            np.array([0.25], dtype=np.float32),
            np.bool_(action == "end"),
            np.bool_(False),
            {"is_success": np.bool_(True)},
        )


class OldGym:
    """As in the gym of 2021, and no subclass of anything."""

    action_space = spaces.Discrete(3, start=5)

    def seed(self, seed=None):
        self.start = seed

    def reset(self):
        self.left = 3
        return {"left": self.left, "start": self.start, "grid": np.eye(2, dtype=int)}

    def step(self, action):
        self.left -= 1
        assert isinstance(action, np.integer)
        return {"left": self.left, "grid": None}, "0.5", self.left == 0, {"TimeLimit.truncated": action == 7}


class Nested(gymnasium.Env):
    """Composite spaces."""

    def __init__(self) -> None:
        self.observation_space = spaces.Dict({"where": spaces.Tuple((spaces.Discrete(9), spaces.Box(-1, 1, (2,)))), "say": spaces.Text(9)})
        self.action_space = spaces.Dict(
            {
                "move": spaces.MultiDiscrete([3, 4]),
                "push": spaces.Tuple((spaces.Box(-1.0, 1.0, (2,)), spaces.Text(5))),
                "jump": spaces.MultiBinary(1),
            }
        )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.told = options
        return {"where": (3, np.array([0.5, -1.0])), "say": "go"}, {}

    def step(self, action):
        assert self.action_space.contains(action)
        return {"where": (4, np.zeros(2)), "say": str(action["push"][1])}, np.float64(1), True, False, {}


class Endless(Echo):
    def step(self, action):
        return "on and on", 1.0, False, False, {}


class Raises(Echo):
    def step(self, action):
        raise RuntimeError("the floor gave way")


class BadStep(Echo):
    def step(self, action):
        return "three", 0.0, True


class NotANumber(Echo):
    def step(self, action):
        return "x", float(action) if action == "nan" else "much", False, False, {}


class Huge(Echo):
    def reset(self, *, seed=None, options=None):
        return np.zeros((80, 80, 3), dtype=np.uint8), {}

    def step(self, action):
        return "y" * 100_000, 0.0, False, False, {}


class Pictures(Echo):
    """Draws itself as text, in colours."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi", "rgb_array"]}

    def __init__(self, render_mode=None) -> None:
        super().__init__()
        self.render_mode = render_mode
        self.observation_space, self.action_space = spaces.Box(0, 1, (2,)), spaces.Box(-1, 1, (2,), dtype=np.float32)

    def reset(self, *, seed=None, options=None):
        return np.zeros(2), {}

    def step(self, action):
        return action, float(action.sum()), False, bool(action[0] == 1), {}

    def render(self):
        return "\x1b[41mA\x1b[0m\x1b[34;1mB\x1b[0m\x1b[2KC"


class Unsayable(Echo):
    def __init__(self) -> None:
        super().__init__()
        self.action_space = spaces.Sequence(spaces.Discrete(3))


class NoSpace:
    def reset(self):
        return ""


class Boom(Echo):
    def __init__(self) -> None:
        raise OSError("no display")


gymnasium.register("tests/Echo-v1", entry_point=Echo, max_episode_steps=3, kwargs={"word": "halt"})


# ---- of skyrl-gym's shape ----------------------------------------------------------------------------------------------


class Guess:
    """As skyrl-gym has it, without the package."""

    def __init__(self, env_config=None, extras=None):
        self.truth = extras["reward_spec"]["ground_truth"]
        self.hint = env_config.hint if env_config else "lower"
        self.closed = False

    def init(self, prompt):
        return [*prompt, {"role": "user", "content": f"draw {random.random()}"}], {}

    def step(self, action):
        right = action.strip() == self.truth
        said = [] if right else [{"role": "user", "content": {"hint": self.hint, "n": np.int64(3)}}]
        return {"observations": said, "reward": np.float32(right), "done": right, "metadata": {}}

    def close(self):
        self.closed = True


class Plain:
    """Takes nothing, returns a tuple, and says things that are no messages."""

    def init(self, prompt):
        return prompt

    def step(self, action):
        return b"bytes", None, action == "end", {"success": 1}


class Attributes:
    def init(self, prompt):
        return None, {}

    def step(self, action):
        class Out:
            observations = "text"
            reward = 1
            done = action == "end"

        return Out()


class Speechless:
    def init(self, prompt):
        return [], {}

    def step(self, action):
        return {"done": True}


class NoStep:
    def init(self, prompt):
        return prompt, {}
