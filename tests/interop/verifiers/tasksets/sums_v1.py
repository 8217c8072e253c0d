"""A taskset as an author of verifiers writes one; ``what`` makes it one that cannot be played, or that breaks."""

from __future__ import annotations

import asyncio
from typing import Any

import verifiers.v1 as vf

__all__ = ["SumsTaskset"]


class SumsData(vf.TaskData):
    answer: Any = None
    what: str = ""


class SumsConfig(vf.TasksetConfig):
    size: int = 40
    what: str = ""


class SumsTask(vf.Task[SumsData]):
    @vf.reward(weight=0.75)
    async def right(self, task, trace) -> float:
        if task.what == "slow":
            await asyncio.sleep(30)
        if task.what == "raise":
            raise RuntimeError("no idea")
        if task.what == "nan":
            return float("nan")
        said = trace.nodes[-1]
        assert said.sampled
        assert not trace.nodes[0].sampled
        assert trace.is_completed
        return float((said.message.content or "").strip() == str(task.answer))

    @vf.reward(weight=0.25)
    async def form(self, trace) -> dict[str, float]:
        return {"short": float(len(trace.nodes[-1].message.content or "") < 20)}

    @vf.metric
    async def length(self, trace) -> float:
        return len(trace.nodes)


class Boxed(SumsTask):
    NEEDS_CONTAINER = True


class Prepared(SumsTask):
    async def setup(self, trace, runtime) -> None:
        return None


class Tooled(SumsTask):
    @classmethod
    def toolsets(cls, config):
        return [object()]


class Watched(SumsTask):
    @vf.reward(weight=1.0)
    async def files(self, runtime) -> float:
        return 1.0


class Unpaid(vf.Task[SumsData]):
    @vf.reward(weight=1.0)
    async def files(self, runtime) -> float:
        return 1.0


KINDS = {"container": Boxed, "setup": Prepared, "tools": Tooled, "partly": Watched, "unpaid": Unpaid}


class SumsTaskset(vf.Taskset[SumsTask, SumsConfig]):
    def load(self):
        what = self.config.what
        if what == "fail":
            raise OSError("the data are gone")
        index = 0
        while what == "endless" or index < self.config.size:
            prompt: Any = f"What is {index}+1?"
            answer: Any = str(index + 1)
            if what == "chat":
                prompt = [
                    vf.UserMessage(content="Hello"),
                    vf.AssistantMessage(content="Yes?"),
                    vf.UserMessage(content=[{"type": "text", "text": prompt}]),
                ]
            if what == "picture":
                prompt = [
                    vf.UserMessage(content=[{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "What is it?"}])
                ]
            if what == "user speaks":
                prompt = None
            if what == "tool speaks":
                prompt = [{"role": "tool", "tool_call_id": "a", "content": "x"}]
            if what == "assistant ends":
                prompt = [vf.UserMessage(content="Hello"), vf.AssistantMessage(content="Yes?")]
            if what == "odd answer":
                answer = {1, 2}
            system = None if what == "user speaks" else "Reply with the number."
            yield KINDS.get(what, SumsTask)(SumsData(prompt=prompt, system_prompt=system, answer=answer, what=what), self.config.task)
            index += 1

    @classmethod
    def toolsets(cls, config):
        return [object()] if config.what == "shared tools" else []
