"""env=my-world: follow the notes from box to box to the prize."""

from my_world.env import MyWorldConfig, MyWorldEnv
from my_world.expert import MyWorldExpert

__all__ = ["MyWorldConfig", "MyWorldEnv", "MyWorldExpert"]
