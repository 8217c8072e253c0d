"""Environments one of whose parts is not what it should be: its kind, or what it returns; ``@breaks`` says how check_env names it."""

from __future__ import annotations

from agentdistill.env import Reply, tool

from .breaks import breaks
from .toys import Shop


@breaks(r"answer\(\) yields, so calling it only makes a generator; return the whole result")
class YieldsItsAnswer(Shop):
    def answer(self, message):
        yield Reply()


@breaks(r"begin\(\) yields, so calling it only makes a generator; return the whole result")
class YieldsItsPrompt(Shop):
    def begin(self, task):
        yield from task.prompt


@breaks(r"answer\(\) is async, and nobody awaits it; write it with plain 'def'")
class AnswersLater(Shop):
    async def answer(self, message):
        return Reply()


@breaks("tool 'go' yields, so calling it only makes a generator; return the whole result")
class YieldingTool(Shop):
    @tool
    def go(self, n: int = 1) -> str:
        """Goes."""
        yield str(n)


@breaks("tool 'go' is async, and nobody awaits it; write it with plain 'def'")
class AsyncTool(Shop):
    @tool
    async def go(self, n: int = 1) -> str:
        """Goes."""
        return str(n)


@breaks(r"^environment 'shop': tool 'go' takes '\*n: .*', which a JSON schema cannot say; give it named parameters")
class StarredTool(Shop):
    @tool
    def go(self, *n: int) -> str:
        """Goes."""
        return ""


@breaks(r"respond\(\) or answer\(\) returned a NoneType: None; return Reply\(messages")
class ForgetsToReturn(Shop):
    def answer(self, message):
        pass


@breaks(r"respond\(\) or answer\(\) returned a str: 'x{59}…; return Reply\(messages")
class AnswersWithText(Shop):
    def answer(self, message):
        return "x" * 100


@breaks("the part 'answer' of the reward is a str: '1'; give finite numbers")
class RewardOfText(Shop):
    def answer(self, message):
        return Reply(parts={"answer": "1"}, done=True, success=True)


@breaks(r"begin\(\) returned a NoneType: None, no tuple of Message; return a tuple of the first messages")
class BeginsWithNothing(Shop):
    def begin(self, task):
        self.asked = []


@breaks(r"anchor\(\) raised KeyError: 'basket'; return a string that is equal for equal states, or None")
class CrashingAnchor(Shop):
    def anchor(self):
        return {}["basket"]


@breaks(r"views\(\) raised IndexError.*; return Views, or None; it is called in every state, after the end too")
class CrashingViews(Shop):
    def views(self):
        return [None][self.turn]


@breaks("load_tasks is no class method.*; put @classmethod above load_tasks")
class LoadsFromAnInstance(Shop):
    def load_tasks(self, config, split):
        raise NotImplementedError


@breaks(r"expert\(\) does not take 'flaws'; define it as expert\(cls, config, \*, flaws=None\)")
class FlawlessExpert(Shop):
    @classmethod
    def expert(cls, config):
        return Shop.expert(config)


@breaks(r"expert\(config\) returned None; return an object with act\(task, messages, rng\)")
class NobodyAsExpert(Shop):
    @classmethod
    def expert(cls, config, *, flaws=None):
        return None


@breaks(r"bad_habits is \['guess'\]; give a dict of names and numbers")
class ListedHabits(Shop):
    bad_habits = ["guess"]  # noqa: RUF012


@breaks(r"bad_habits is \{'guess': 'often'\}; give a dict of names and numbers")
class WordyHabits(Shop):
    bad_habits = {"guess": "often"}  # noqa: RUF012
