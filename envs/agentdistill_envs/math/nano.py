"""The nano task set: made by rule, committed as files, and the same on every machine.

Four of five tasks are expressions of 2 to 4 operations, one of five is a story of 2 or 3; every value on the way is within 0..999.
No two tasks, in whichever split, have the same normal form (``4+17`` and ``17+4`` are one), story or not.

    python -m agentdistill_envs.math.nano tasks/math/nano        # writes train.jsonl, val.jsonl, test.jsonl, schema.json
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agentdistill_envs.dice import Dice
from agentdistill_envs.files import write_splits
from agentdistill_envs.math.expression import Node, Tree, normal_form, operations, render, value
from agentdistill_envs.math.rows import NanoRow
from agentdistill_envs.math.stories import NAMES, THINGS, tell

SEED = 20261124
SIZES = {"test": 512, "val": 256, "train": 4096}
"""In the order they are drawn."""
LARGEST = 999

_STORY_SHARE = 0.2
_CALLS = {"expression": ((2, 0.25), (3, 0.40), (4, 0.35)), "story": ((2, 0.4), (3, 0.6))}
_ATTEMPTS = 200


def leaf(dice: Dice) -> int:
    """A number of a task: one digit or two, equally often; at least 2."""
    return 2 + dice.below(8) if dice.chance(0.5) else 10 + dice.below(90)


def in_range(tree: Tree) -> bool:
    """Whether every value on the way is within 0..999, and no difference is empty."""
    return all(0 < value(node) <= LARGEST for node in operations(tree))


def draw_expression(dice: Dice, calls: int) -> Tree:
    """A random tree of ``calls`` operations, all values in range. The shape is kept while numbers are drawn again, so that
    multiplications are not the ones that get lost."""
    while True:
        shape = _shape(dice, calls)
        for _ in range(_ATTEMPTS):
            tree = _fill(shape, dice)
            if in_range(tree):
                return tree


def draw_story(dice: Dice, calls: int) -> Tree:
    """A random chain of events of ``calls`` operations, all values in range."""
    while True:
        tree: Tree = Node("*", 0, 0) if dice.chance(0.4) else 0
        left = calls - sum(1 for _ in operations(tree))
        while left:
            op = dice.pick("+-*")
            bags = op != "*" and left > 1 and dice.chance(0.4)
            tree = Node(op, tree, Node("*", 0, 0) if bags else 0)
            left -= 2 if bags else 1
        for _ in range(_ATTEMPTS):
            filled = _fill(tree, dice)
            if in_range(filled):
                return filled


def _shape(dice: Dice, calls: int) -> Tree:
    if calls == 0:
        return 0
    left = dice.below(calls)
    return Node(dice.pick("+-*"), _shape(dice, left), _shape(dice, calls - 1 - left))


def _fill(shape: Tree, dice: Dice) -> Tree:
    return leaf(dice) if isinstance(shape, int) else Node(shape.op, _fill(shape.left, dice), _fill(shape.right, dice))


def rows(seed: int = SEED) -> Iterator[tuple[str, dict[str, Any]]]:
    """(split, row) of every task."""
    dice = Dice(seed)
    seen: set[str] = set()
    for split, size in SIZES.items():
        for index in range(size):
            while True:
                kind = "story" if dice.chance(_STORY_SHARE) else "expression"
                calls = dice.weighted(_CALLS[kind])
                tree = draw_story(dice, calls) if kind == "story" else draw_expression(dice, calls)
                question = tell(tree, dice.pick(NAMES), dice.pick(THINGS)) if kind == "story" else render(tree)
                if (key := normal_form(tree)) not in seen:
                    break
            seen.add(key)
            data = {"kind": kind, "expression": render(tree), "calls": calls}
            yield split, {"id": f"nano-{split}-{index:04d}", "question": question, "answer": str(value(tree)), "data": data}


def write(directory: Path, seed: int = SEED) -> None:
    """Write one JSONL file a split, and the JSON schema of a row."""
    write_splits(directory, rows(seed), NanoRow)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the nano task set of env=math.")
    parser.add_argument("directory", type=Path)
    write(parser.parse_args().directory)
