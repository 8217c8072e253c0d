"""The shared generators are each world's own while it is called."""

from __future__ import annotations

import random
from types import ModuleType, SimpleNamespace

import gymnasium
import numpy as np
import pytest

from agentdistill.clock import Mutex, ThreadExecutor
from agentdistill.errors import EnvError
from agentdistill.interop import chance as module
from agentdistill.interop.chance import Chance, may_draw
from agentdistill.interop.texts import readable

from . import worlds


def test_draws_continue_where_the_world_left_them_and_leave_no_trace():
    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), str(np.random.get_state())
    first, second = Chance(7), Chance(7)
    drawn: dict[int, list[float]] = {0: [], 1: []}
    for _ in range(5):
        for index, each in enumerate((first, second)):
            with each.own():
                drawn[index] += [random.random(), np.random.rand(), np.random.normal()]
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == 15
    with pytest.raises(ValueError), first.own():
        random.randrange(0)
    assert (random.getstate(), str(np.random.get_state())) == before
    numbers = str(np.random.get_state())
    with Chance(7, numpy=False).own():
        random.random()
    assert str(np.random.get_state()) == numbers


@pytest.mark.parametrize(
    ("source", "draws"),
    [
        ("from random import choice", True),
        ("import random as r", True),
        ("from numpy.random import rand", True),
        ("import numpy as np\nclass World:\n    @property\n    def x(self):\n        return np.random.rand()", True),
        ("class World:\n    def step(self):\n        def inner():\n            import random\n        return inner", True),
        ("import numpy as np\nclass World:\n    def step(self):\n        return self.np_random.integers(3)", False),
        ("class World:\n    pass", False),
    ],
)
def test_a_world_that_may_draw_is_known_by_its_code(source, draws, tmp_path, monkeypatch):
    (tmp_path / "quaint.py").write_text(source if "World" in source else f"{source}\nclass World:\n    pass")
    (tmp_path / "beside.py").write_text("import quaint\nclass World:\n    pass")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("quaint", "beside"):
        monkeypatch.delitem(__import__("sys").modules, name, raising=False)
    import quaint

    assert may_draw(quaint.World()) is draws
    import beside

    assert may_draw(beside.World()) is draws
    for name in ("quaint", "beside"):
        monkeypatch.delitem(__import__("sys").modules, name)


def test_gymnasiums_own_worlds_do_not_draw_and_ours_for_the_tests_do():
    assert not may_draw(gymnasium.make("FrozenLake-v1").unwrapped)
    assert may_draw(worlds.GlobalChance())
    assert isinstance(module, ModuleType)


def test_a_thread_that_does_not_come_out_is_not_waited_for_forever():
    mutex = Mutex(patience=0.01)
    executor = ThreadExecutor(1)
    with mutex.held(), mutex.held():

        def enter() -> None:
            with mutex.held():
                pass

        future = executor.submit(enter)
        executor.wait_any([future])
    executor.close()
    with pytest.raises(EnvError, match=r"more than 0.01 s"):
        future.result()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (np.float32(0.5), "0.5"),
        (True, "True"),
        ({"a": {"b": [1, 2.0]}, "c": "x\ny"}, "a: {b: [1, 2]}\nc:\nx\ny"),
        ([{"role": "user", "content": "hi"}, "there"], "hi\nthere"),
        ((1, (2, None)), "[1, [2, ]]"),
        (np.array("x"), "x"),
        (np.zeros((2, 0)), "[]\n[]"),
        (SimpleNamespace(a=1), "namespace(a=1)"),
        (bytearray(b"ab"), "ab"),
        (gymnasium.spaces.GraphInstance(np.zeros(1), None, None), "nodes: [0]\nedges: \nedge_links: "),
        (range(500), None),
    ],
)
def test_anything_can_be_read(value, text):
    assert readable(value) == text if text is not None else readable(value).endswith("… 100 more]")


def test_what_holds_itself_ends():
    loop: list[object] = []
    loop.append(loop)
    assert readable(loop).endswith("…" + "]" * 9)
