"""Environments that break one promise each, in how they are played; ``@breaks`` says how check_env names it."""

from __future__ import annotations

import random

import numpy as np

from agentdistill.env import Reply, tool
from agentdistill.types import Message, StopReason, Views

from .breaks import breaks
from .toys import Shop


@breaks(r"render\(\) in mode 'ansi' raised IndexError.*; leave render to AgentEnv")
class CrashingRender(Shop):
    def render(self):
        return {"ansi": self.messages[99]}[self.render_mode]


@breaks(r"render\(\) in mode 'ansi' raised ZeroDivisionError.*; leave render to AgentEnv")
class LateCrashingRender(Shop):
    def render(self):
        return super().render() if self.turn == 0 else 1 / 0


@breaks(r"render\(\) in mode 'ansi' returned a NoneType; return text")
class RendersNothing(Shop):
    def render(self):
        return None


@breaks("building it raised ValueError: no render mode 'rgb_array'")
class RendersWhatItCannot(Shop):
    metadata = {"render_modes": ["ansi", "rgb_array"]}  # noqa: RUF012


@breaks("raised ValueError: already answered; answer an agent's mistake with a message")
class SecondAnswerCrashes(Shop):
    def begin(self, task):
        self.wrong = []
        return super().begin(task)

    def answer(self, message):
        self.wrong.append(message.content)
        if len(self.wrong) == 2:
            raise ValueError("already answered")
        return Reply(messages=(Message.user("Wrong."),), success=None)


@breaks("raised ZeroDivisionError.*; answer an agent's mistake with a message")
class BreaksLate(Shop):
    def answer(self, message):
        return Reply(parts={"answer": 1.0 / (5 - self.turn)})


@breaks("raised IndexError: no more; answer an agent's mistake")
class LateCallCrashes(Shop):
    def after_calls(self, results):
        if len(self.asked) > 3:
            raise IndexError("no more")
        return Reply()


@breaks("raised SystemExit: 0; answer an agent's mistake")
class QuitsLate(Shop):
    def answer(self, message):
        if self.turn > 1:
            raise SystemExit(0)
        return Reply(messages=(Message.user("Sure?"),))


@breaks("raised KeyError: 'day'; answer an agent's mistake")
class BreaksOnTestTasks(Shop):
    def answer(self, message):
        if self.task.data["day"] >= 9:
            raise KeyError("day")
        return Reply(parts={"answer": float(message.content == self.task.answer)}, done=True, success=message.content == self.task.answer)


@breaks("reset does not return two things; return observation, info")
class ThreeThings(Shop):
    def reset(self, *, seed=None, options=None):
        return *super().reset(seed=seed, options=options), {}


@breaks(r"info\['task'\] of reset is a str; leave reset to AgentEnv")
class TaskByName(Shop):
    def reset(self, *, seed=None, options=None):
        observation, info = super().reset(seed=seed, options=options)
        return observation, {**info, "task": info["task"].id}


@breaks("step after the end raised SystemExit; raise gymnasium.error.ResetNeeded")
class QuitsAtTheEnd(Shop):
    def step(self, action):
        if self.over:
            raise SystemExit(1)
        return super().step(action)


@breaks("raised OSError: the database is down; begin any task of its own at any time, without outside resources")
class FailingReset(Shop):
    def begin(self, task):
        raise OSError("the database is down")


@breaks("reset returns no messages; return the task's prompt")
class SilentReset(Shop):
    def begin(self, task):
        super().begin(task)
        return ()


@breaks("a message of role 'assistant'; speak as system, user or tool")
class SpeaksForTheAgent(Shop):
    def begin(self, task):
        return (*super().begin(task), Message.assistant("Sure!"))


@breaks("no tuple of Message; return a tuple")
class ListObservation(Shop):
    def begin(self, task):
        return list(super().begin(task))


@breaks("another task than the one in options; play options")
class OtherTask(Shop):
    def _choose(self, options):
        return self.make_task(5)


@breaks("raised ValueError: invalid literal.*; answer an agent's mistake with a message")
class Fragile(Shop):
    def answer(self, message):
        return Reply(parts={"answer": 1.0 if int(message.content) == 3 else 0.0}, done=True, success=True)


@breaks("raised ValueError: invalid literal.*raise ToolError in the tool")
class FragileTool(Shop):
    @tool
    def parse(self, text: str) -> int:
        """Parses."""
        return int(text)


@breaks("is not the sum of its parts.*; put every reward into Reply.parts")
class BareReward(Shop):
    def step(self, action):
        observation, reward, *rest = super().step(action)
        return observation, reward + 1.0, *rest


@breaks("the reward is nan; give finite numbers")
class NotFinite(Shop):
    def after_calls(self, results):
        return Reply(parts={"answer": float("nan")})


@breaks("does not return five things; return observation, reward, terminated, truncated, info")
class FourThings(Shop):
    def step(self, action):
        observation, reward, terminated, _, info = super().step(action)
        return observation, reward, terminated, info


@breaks("terminated=True and truncated=True; return two bools")
class BothEnds(Shop):
    def step(self, action):
        observation, reward, *_, info = super().step(action)
        return observation, reward, True, True, info


@breaks(r"info\['stop'\] is .*COMPLETED.*; leave step to AgentEnv")
class StopDisagrees(Shop):
    def step(self, action):
        *result, info = super().step(action)
        return *result, {**info, "stop": StopReason.COMPLETED}


@breaks("success is 1; give True, False, or None")
class OddSuccess(Shop):
    def step(self, action):
        *result, info = super().step(action)
        return *result, {**info, "success": 1}


@breaks("the info of step lacks stop; keep what AgentEnv.step puts there")
class SparseInfo(Shop):
    def step(self, action):
        *result, info = super().step(action)
        del info["stop"]
        return *result, info


@breaks(r"the calls \['call_0'\] were answered by tool messages for \[\].*; answer every call")
class SwallowedCall(Shop):
    def respond(self, message):
        reply = super().respond(message)
        return Reply(parts=reply.parts, done=reply.done, success=reply.success)


@breaks("no tuple of ToolResult; put one ToolResult a call")
class OddResults(Shop):
    def respond(self, message):
        return Reply(messages=super().respond(message).messages, tool_results=[1])


@breaks(r"anchor\(\) returned a int; return a string")
class OddAnchor(Shop):
    def anchor(self):
        return 7


@breaks(r"views\(\) returned a dict; return Views")
class OddViews(Shop):
    def views(self):
        return {"answer": 1}


@breaks(r"the value in views\(\) is inf; give a finite number")
class EndlessValue(Shop):
    def views(self):
        return Views(value=float("inf"))


@breaks("not recorded in 'messages'; leave step to AgentEnv")
class Forgetful(Shop):
    def step(self, action):
        result = super().step(action)
        self.messages.clear()
        return result


@breaks("goes on.*; ")
class Tireless(Shop):
    def _limit(self):
        return None

    def answer(self, message):
        return Reply()


@breaks("goes on after its time_limit; leave step to AgentEnv")
class Timeless(Shop):
    def _limit(self):
        return StopReason.MAX_TURNS if self.turns_left <= 0 else None


@breaks("step after the end goes on; raise gymnasium.error.ResetNeeded")
class GoesOn(Shop):
    def step(self, action):
        self.over = False
        return super().step(action)


@breaks("step after the end raised RuntimeError; raise gymnasium.error.ResetNeeded")
class EndsWithAnotherError(Shop):
    def step(self, action):
        if self.over:
            raise RuntimeError("done")
        return super().step(action)


@breaks("random generator that the whole process shares; draw all chance from self.np_random")
class GlobalChance(Shop):
    def respond(self, message):
        random.random()
        return super().respond(message)


@breaks("two episodes with one seed and the same actions differ, first at call 0.*; draw all chance from self.np_random")
class UnseededChance(Shop):
    def begin(self, task):
        super().begin(task)
        return (*task.prompt, Message.user(str(np.random.default_rng().integers(10**9))))


@breaks("depends on the one before it.*; set all state up in begin")
class Remembering(Shop):
    def begin(self, task):
        self.games = getattr(self, "games", 0) + 1
        return (*super().begin(task), Message.user(f"game {self.games}"))


@breaks("disturb each other; keep state in the instance")
class Shared(Shop):
    basket: list[str] = []  # noqa: RUF012  the mistake under test

    def begin(self, task):
        self.basket.clear()
        return super().begin(task)

    def respond(self, message):
        self.basket.append("x")
        reply = super().respond(message)
        return Reply(
            messages=(*reply.messages, Message.user(f"{len(self.basket)} things")),
            done=reply.done,
            success=reply.success,
            tool_results=reply.tool_results,
            parts=reply.parts,
        )
