"""The nano task set: made by rule, committed as files, and the same on every machine.

Optimal play takes 2 to 8 turns; each task has a shop of its own, so no two share more than their wording.

    python -m agentdistill_envs.tools.nano tasks/tools/nano        # writes train.jsonl, val.jsonl, test.jsonl, schema.json
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agentdistill_envs.dice import Dice
from agentdistill_envs.files import write_splits
from agentdistill_envs.tools.rows import ToolsRow
from agentdistill_envs.tools.sample import draw

SEED = 20261124
SIZES = {"test": 512, "val": 256, "train": 2048}
"""In the order they are drawn."""
TURNS = ((2, 0.08), (3, 0.17), (4, 0.2), (5, 0.2), (6, 0.18), (7, 0.1), (8, 0.07))
"""Turns of optimal play, each with its share."""


def rows(seed: int = SEED) -> Iterator[tuple[str, dict[str, Any]]]:
    """(split, row) of every task."""
    dice = Dice(seed)
    for split, size in SIZES.items():
        for index in range(size):
            yield split, {"id": f"tools-{split}-{index:04d}", **draw(dice, dice.weighted(TURNS))}


def write(directory: Path, seed: int = SEED) -> None:
    """Write one JSONL file a split, and the JSON schema of a row."""
    write_splits(directory, rows(seed), ToolsRow, separators=(",", ":"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the nano task set of env=tools.")
    parser.add_argument("directory", type=Path)
    write(parser.parse_args().directory)
