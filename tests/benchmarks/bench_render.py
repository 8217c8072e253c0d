"""What token bookkeeping costs a turn, in process CPU time: the new segment is encoded, the history is not touched.

python tests/benchmarks/bench_render.py [--turns 128] [--profile]
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import time

from transformers import AutoTokenizer

from agentdistill.render import Renderer
from agentdistill.resources import nano_dir
from agentdistill.types import Message, ToolCall, ToolResult, ToolSpec

TURNS = 128
CALCULATOR = ToolSpec(
    name="calculator",
    description="Does one operation.",
    parameters={"type": "object", "properties": {"expression": {"type": "string", "description": "like 4+17"}}, "required": ["expression"]},
)


def per_turn(renderer: Renderer, turns: int = TURNS, last: int = 16) -> float:
    """Milliseconds of process CPU time of a turn, over the ``last`` ones of an episode: parse, commit, extend, context."""
    call = Message.assistant("", ToolCall(id="call_0", name="calculator", arguments={"expression": "17*3"}))
    ids = renderer.encode(call)
    buffer = renderer.start((Message.system("Use the calculator."), Message.user("What is 17*3?")), (CALCULATOR,))
    buffer.context()
    spent = 0.0
    for turn in range(turns):
        reply = Message.tool(ToolResult(call_id="call_0", name="calculator", content=f"{turn} is what it comes to, and so on. " * 6))
        began = time.process_time()
        buffer.commit(ids, renderer.parse(ids))
        buffer.extend((reply,))
        buffer.context()
        if turn >= turns - last:
            spent += time.process_time() - began
    return spent / last * 1000


def renderer() -> Renderer:
    """Of the shipped nano tokenizer."""
    return Renderer(AutoTokenizer.from_pretrained(nano_dir("math", "student")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    made = renderer()
    for turns in (17, arguments.turns):
        best = min(per_turn(made, turns) for _ in range(5))
        print(json.dumps({"turn": turns, "ms_per_turn": round(best, 3)}))  # noqa: T201
    if arguments.profile:
        with cProfile.Profile() as profiler:
            per_turn(made, arguments.turns)
        pstats.Stats(profiler).sort_stats("tottime").print_stats(20)


if __name__ == "__main__":
    main()
