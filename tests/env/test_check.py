"""check_env passes good environments, and names the broken promise and its remedy for bad ones."""

import json
import random

import numpy as np
import pytest
from agentdistill_envs.math import MathConfig, MathEnv
from gymnasium import spaces

from agentdistill.env import AgentEnv, EnvConfig, Reply, check_env, tool
from agentdistill.env.check.actions import call
from agentdistill.errors import ConfigError, PluginError, TaskError
from agentdistill.taskset import TaskSet
from agentdistill.types import Message, StopReason, ToolSpec, Views

from .toys import Shop, ShopConfig


def test_a_good_environment_passes_as_class_instance_and_name():
    check_env(Shop)
    check_env(Shop(ShopConfig(max_turns=3)))
    check_env(Shop, config=ShopConfig(tries=1))
    check_env("math", tasks=3)


class Nameless(Shop):
    name = ""


class OwnSpace(Shop):
    def __init__(self, config=None, **kwargs):
        super().__init__(config, **kwargs)
        self.action_space = spaces.Discrete(3)


class NoClock(Shop):
    def __init__(self, config=None):
        super().__init__(config)


class UntypedTool(Shop):
    @tool
    def sell(self, item):
        """Sells."""


class Undocumented(Shop):
    @tool
    def sell(self, item: str) -> None: ...


class ListOfTools(Shop):
    @property
    def tools(self):
        return list(super().tools)


class TwoOfOneName(Shop):
    @property
    def tools(self):
        return super().tools * 2


class NoSchema(Shop):
    @property
    def tools(self):
        return (ToolSpec(name="x", description="y", parameters={"type": "string"}),)


class AnySplit(Shop):
    @classmethod
    def load_tasks(cls, config, split):
        return super().load_tasks(config, split if split in ("train", "val", "test") else "train")


class VagueSplit(Shop):
    @classmethod
    def load_tasks(cls, config, split):
        try:
            return super().load_tasks(config, split)
        except TaskError:
            raise TaskError("no") from None


class CrashingSplit(Shop):
    @classmethod
    def load_tasks(cls, config, split):
        return TaskSet("shop", {"train": [cls.make_task(0)], "val": [cls.make_task(1)], "test": [cls.make_task(2)]}[split], split=split)


class EmptySplit(Shop):
    @classmethod
    def load_tasks(cls, config, split):
        return TaskSet("shop", [], split=split) if split == "val" else super().load_tasks(config, split)


class ListOfTasks(Shop):
    @classmethod
    def load_tasks(cls, config, split):
        return list(super().load_tasks(config, split))


class NoTasks(AgentEnv):
    name = "shop"

    def respond(self, message):
        return Reply(done=True)


class RowsForTasks(Shop):
    @classmethod
    def load_tasks(cls, config, split):
        class Rows(TaskSet):
            hash = "same"

        found = Rows("shop", list(super().load_tasks(config, split)), split=split)
        found._tasks = [{"id": 1}]
        return found


class CrashingMaker(Shop):
    @classmethod
    def load_tasks(cls, config, split):
        super().load_tasks(config, split)
        return TaskSet.from_source("shop", lambda index: cls.make_task(index // 0), 3, split=split)


class QuitsWhileLoading(Shop):
    @classmethod
    def load_tasks(cls, config, split):
        raise SystemExit("no licence")


class CrashingInit(Shop):
    def __init__(self, config=None, **kwargs):
        super().__init__(config, **kwargs)
        raise RuntimeError("no licence")


class QuitsInInit(Shop):
    def __init__(self, config=None, **kwargs):
        super().__init__(config, **kwargs)
        raise SystemExit(3)


class CrashingRender(Shop):
    def render(self):
        return {"ansi": self.messages[99]}[self.render_mode]


class LateCrashingRender(Shop):
    def render(self):
        return super().render() if self.turn == 0 else 1 / 0


class RendersNothing(Shop):
    def render(self):
        return None


class RendersWhatItCannot(Shop):
    metadata = {"render_modes": ["ansi", "rgb_array"]}  # noqa: RUF012


class SecondAnswerCrashes(Shop):
    def begin(self, task):
        self.wrong = []
        return super().begin(task)

    def answer(self, message):
        self.wrong.append(message.content)
        if len(self.wrong) == 2:
            raise ValueError("already answered")
        return Reply(messages=(Message.user("Wrong."),), success=None)


class BreaksLate(Shop):
    def answer(self, message):
        return Reply(parts={"answer": 1.0 / (5 - self.turn)})


class LateCallCrashes(Shop):
    def after_calls(self, results):
        if len(self.asked) > 3:
            raise IndexError("no more")
        return Reply()


class QuitsLate(Shop):
    def answer(self, message):
        if self.turn > 1:
            raise SystemExit(0)
        return Reply(messages=(Message.user("Sure?"),))


class BreaksOnTestTasks(Shop):
    def answer(self, message):
        if self.task.data["day"] >= 9:
            raise KeyError("day")
        return Reply(parts={"answer": float(message.content == self.task.answer)}, done=True, success=message.content == self.task.answer)


class NoExpertObject(Shop):
    @classmethod
    def expert(cls, config, *, flaws=None):
        raise FileNotFoundError("demonstrations.json")


class QuitsForTheExpert(Shop):
    @classmethod
    def expert(cls, config, *, flaws=None):
        raise SystemExit("no expert")


class ExpertOfText(Shop):
    @classmethod
    def expert(cls, config, *, flaws=None):
        class Writer:
            def act(self, task, messages, rng):
                return str(task.answer)

        return Writer()


class ThreeThings(Shop):
    def reset(self, *, seed=None, options=None):
        return *super().reset(seed=seed, options=options), {}


class TaskByName(Shop):
    def reset(self, *, seed=None, options=None):
        observation, info = super().reset(seed=seed, options=options)
        return observation, {**info, "task": info["task"].id}


class QuitsAtTheEnd(Shop):
    def step(self, action):
        if self.over:
            raise SystemExit(1)
        return super().step(action)


class CrashingConfig(EnvConfig):
    def __init__(self, **values):
        raise OSError("no settings")


class Unconfigurable(Shop):
    Config = CrashingConfig


class Overlapping(Shop):
    @classmethod
    def load_tasks(cls, config, split):
        return super().load_tasks(config, "train" if split == "test" else split)


class FreshTasks(Shop):
    @classmethod
    def load_tasks(cls, config, split):
        tasks = super().load_tasks(config, split)
        return TaskSet("shop", [task.model_copy(update={"data": {"day": 1, "x": id(tasks)}}) for task in tasks], split=split)


class ForeignTasks(Shop):
    @classmethod
    def load_tasks(cls, config, split):
        return TaskSet("shop", [task.model_copy(update={"env": "code"}) for task in super().load_tasks(config, split)], split=split)


class NothingToAnswer(Shop):
    @classmethod
    def load_tasks(cls, config, split):
        return TaskSet("shop", [task.model_copy(update={"prompt": ()}) for task in super().load_tasks(config, split)], split=split)


class FailingReset(Shop):
    def begin(self, task):
        raise OSError("the database is down")


class SilentReset(Shop):
    def begin(self, task):
        super().begin(task)
        return ()


class SpeaksForTheAgent(Shop):
    def begin(self, task):
        return (*super().begin(task), Message.assistant("Sure!"))


class ListObservation(Shop):
    def begin(self, task):
        return list(super().begin(task))


class OtherTask(Shop):
    def _choose(self, options):
        return self.make_task(5)


class Fragile(Shop):
    def answer(self, message):
        return Reply(parts={"answer": 1.0 if int(message.content) == 3 else 0.0}, done=True, success=True)


class FragileTool(Shop):
    @tool
    def parse(self, text: str) -> int:
        """Parses."""
        return int(text)


class BareReward(Shop):
    def step(self, action):
        observation, reward, *rest = super().step(action)
        return observation, reward + 1.0, *rest


class NotFinite(Shop):
    def after_calls(self, results):
        return Reply(parts={"answer": float("nan")})


class FourThings(Shop):
    def step(self, action):
        observation, reward, terminated, _, info = super().step(action)
        return observation, reward, terminated, info


class BothEnds(Shop):
    def step(self, action):
        observation, reward, *_, info = super().step(action)
        return observation, reward, True, True, info


class StopDisagrees(Shop):
    def step(self, action):
        *result, info = super().step(action)
        return *result, {**info, "stop": StopReason.COMPLETED}


class OddSuccess(Shop):
    def step(self, action):
        *result, info = super().step(action)
        return *result, {**info, "success": 1}


class SparseInfo(Shop):
    def step(self, action):
        *result, info = super().step(action)
        del info["stop"]
        return *result, info


class SwallowedCall(Shop):
    def respond(self, message):
        reply = super().respond(message)
        return Reply(parts=reply.parts, done=reply.done, success=reply.success)


class OddResults(Shop):
    def respond(self, message):
        return Reply(messages=super().respond(message).messages, tool_results=[1])


class OddAnchor(Shop):
    def anchor(self):
        return 7


class OddViews(Shop):
    def views(self):
        return {"answer": 1}


class EndlessValue(Shop):
    def views(self):
        return Views(value=float("inf"))


class Forgetful(Shop):
    def step(self, action):
        result = super().step(action)
        self.messages.clear()
        return result


class Tireless(Shop):
    def _limit(self):
        return None

    def answer(self, message):
        return Reply()


class Timeless(Shop):
    def _limit(self):
        return StopReason.MAX_TURNS if self.turns_left <= 0 else None


class GoesOn(Shop):
    def step(self, action):
        self.over = False
        return super().step(action)


class EndsWithAnotherError(Shop):
    def step(self, action):
        if self.over:
            raise RuntimeError("done")
        return super().step(action)


class GlobalChance(Shop):
    def respond(self, message):
        random.random()
        return super().respond(message)


class UnseededChance(Shop):
    def begin(self, task):
        super().begin(task)
        return (*task.prompt, Message.user(str(np.random.default_rng().integers(10**9))))


class Remembering(Shop):
    def begin(self, task):
        self.games = getattr(self, "games", 0) + 1
        return (*super().begin(task), Message.user(f"game {self.games}"))


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


class WrongExpert(Shop):
    @classmethod
    def expert(cls, config, *, flaws=None):
        class Fool:
            def act(self, task, messages, rng):
                return Message.assistant("no idea")

        return Fool()


class CrashingExpert(Shop):
    @classmethod
    def expert(cls, config, *, flaws=None):
        class Absent:
            def act(self, task, messages, rng):
                raise KeyError("expression")

        return Absent()


class WrongValue(Shop):
    def views(self):
        return Views(value=0.5)


class FixedSeed(Shop):
    def reset(self, *, seed=0, options=None):
        return super().reset(seed=seed, options=options)


class NoDefault(EnvConfig):
    must: int


class Demanding(Shop):
    Config = NoDefault


class OddConfig(Shop):
    Config = dict


BROKEN = [
    (Nameless, "its name is ''; set the class attribute 'name'"),
    (OwnSpace, "action space does not hold messages; leave the spaces that AgentEnv.__init__ sets|asking its action space"),
    (NoClock, "building it raised TypeError.*hand them to super"),
    (UntypedTool, "parameter 'item' of tool 'sell' has no type; annotate it|make every tool a function with typed"),
    (Undocumented, "tool 'sell' has no description; write a docstring"),
    (ListOfTools, "not a tuple of ToolSpec; return a tuple"),
    (TwoOfOneName, "two tools have one name: price, price; rename one"),
    (NoSchema, "parameters of tool 'x' are no JSON schema of an object; use ToolEnv"),
    (AnySplit, "accepts an unknown split; raise TaskError"),
    (VagueSplit, "does not name the valid ones: no; raise TaskError naming train, val, test"),
    (CrashingSplit, "unknown split raised KeyError; raise TaskError"),
    (EmptySplit, r"'val'\) raised TaskError: the task set 'shop' \(val\) is empty.*; return a TaskSet for each of train, val, test"),
    (ListOfTasks, r"load_tasks\(config, 'train'\) returned a list; return TaskSet\(name, tasks, split='train'\)"),
    (NoTasks, r"raised NotImplementedError: NoTasks does not say where its tasks come from; override load_tasks.*; return a TaskSet"),
    (RowsForTasks, "the tasks of 'train' hold a dict; put agentdistill.types.Task"),
    (CrashingMaker, "reading the tasks of 'train' raised ZeroDivisionError.*; return a TaskSet"),
    (QuitsWhileLoading, r"load_tasks\(config, 'train'\) raised SystemExit: no licence; return a TaskSet"),
    (CrashingInit, r"building it raised RuntimeError: no licence; take \(config"),
    (QuitsInInit, r"building it raised SystemExit: 3; take \(config"),
    (CrashingRender, r"render\(\) in mode 'ansi' raised IndexError.*; leave render to AgentEnv"),
    (LateCrashingRender, r"render\(\) in mode 'ansi' raised ZeroDivisionError.*; leave render to AgentEnv"),
    (RendersNothing, r"render\(\) in mode 'ansi' returned a NoneType; return text"),
    (RendersWhatItCannot, "building it raised ValueError: no render mode 'rgb_array'"),
    (SecondAnswerCrashes, "raised ValueError: already answered; answer an agent's mistake with a message"),
    (BreaksLate, "raised ZeroDivisionError.*; answer an agent's mistake with a message"),
    (LateCallCrashes, "raised IndexError: no more; answer an agent's mistake"),
    (QuitsLate, "raised SystemExit: 0; answer an agent's mistake"),
    (BreaksOnTestTasks, "raised KeyError: 'day'; answer an agent's mistake"),
    (NoExpertObject, r"expert\(config\) raised FileNotFoundError: demonstrations.json; .*raise NotImplementedError where there is none"),
    (QuitsForTheExpert, r"expert\(config\) raised SystemExit: no expert; "),
    (ExpertOfText, "the expert, on task 'shop-6', returned '42'; return a Message of the assistant's"),
    (ThreeThings, "reset does not return two things; return observation, info"),
    (TaskByName, r"info\['task'\] of reset is a str; leave reset to AgentEnv"),
    (QuitsAtTheEnd, "step after the end raised SystemExit; raise gymnasium.error.ResetNeeded"),
    (Unconfigurable, r"Config cannot be built without arguments \(no settings\); give every field a default"),
    (Overlapping, "task 'shop-0' is in 'train' and in 'test'; keep the splits apart"),
    (FreshTasks, "loading 'train' twice gives different tasks; make tasks a function"),
    (ForeignTasks, "says env='code'; set Task.env to 'shop'"),
    (NothingToAnswer, "leaves nothing to answer; end it with a message of the user's"),
    (FailingReset, "raised OSError: the database is down; begin any task of its own at any time, without outside resources"),
    (SilentReset, "reset returns no messages; return the task's prompt"),
    (SpeaksForTheAgent, "a message of role 'assistant'; speak as system, user or tool"),
    (ListObservation, "no tuple of Message; return a tuple"),
    (OtherTask, "another task than the one in options; play options"),
    (Fragile, "raised ValueError: invalid literal.*; answer an agent's mistake with a message"),
    (FragileTool, "raised ValueError: invalid literal.*raise ToolError in the tool"),
    (BareReward, "is not the sum of its parts.*; put every reward into Reply.parts"),
    (NotFinite, "the reward is nan; give finite numbers"),
    (FourThings, "does not return five things; return observation, reward, terminated, truncated, info"),
    (BothEnds, "terminated=True and truncated=True; return two bools"),
    (StopDisagrees, r"info\['stop'\] is .*COMPLETED.*; leave step to AgentEnv"),
    (OddSuccess, "success is 1; give True, False, or None"),
    (SparseInfo, "the info of step lacks stop; keep what AgentEnv.step puts there"),
    (SwallowedCall, r"the calls \['call_0'\] were answered by tool messages for \[\].*; answer every call"),
    (OddResults, "no tuple of ToolResult; put one ToolResult a call"),
    (OddAnchor, r"anchor\(\) returned a int; return a string"),
    (OddViews, r"views\(\) returned a dict; return Views"),
    (EndlessValue, r"the value in views\(\) is inf; give a finite number"),
    (Forgetful, "not recorded in 'messages'; leave step to AgentEnv"),
    (Tireless, "goes on.*; "),
    (Timeless, "goes on after its time_limit; leave step to AgentEnv"),
    (GoesOn, "step after the end goes on; raise gymnasium.error.ResetNeeded"),
    (EndsWithAnotherError, "step after the end raised RuntimeError; raise gymnasium.error.ResetNeeded"),
    (GlobalChance, "random generator that the whole process shares; draw all chance from self.np_random"),
    (UnseededChance, "two episodes with one seed and the same actions differ, first at call 0.*; draw all chance from self.np_random"),
    (Remembering, "depends on the one before it.*; set all state up in begin"),
    (Shared, "disturb each other; keep state in the instance"),
    (WrongExpert, "its expert fails task 'shop-6'; mend the expert"),
    (CrashingExpert, "the expert, on task 'shop-6', raised KeyError.*; let it act from any conversation"),
    (WrongValue, r"promises a value of 0.5 for task 'shop-6', and the expert gets 1.0; give the exact return"),
    (FixedSeed, "Gymnasium's checker raised.*seed"),
    (Demanding, "Config cannot be built without arguments.*; give every field a default"),
    (OddConfig, "is no EnvConfig; derive it from"),
]


@pytest.mark.parametrize(("kind", "words"), BROKEN, ids=[kind.__name__ for kind, _ in BROKEN])
def test_a_broken_promise_is_named_with_its_remedy(kind, words):
    with pytest.raises(PluginError, match=words):
        check_env(kind)


def test_calls_to_the_end_are_ones_that_the_schema_allows():
    properties = {
        "kind": {"enum": ["pen", "cup"]},
        "count": {"type": "integer"},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "fixed": {"const": 3},
        "odd": True,
        "rest": {"type": "array", "default": ["a"]},
    }
    said = call(ToolSpec(name="buy", description="Buys.", parameters={"type": "object", "properties": properties}))
    assert said.tool_calls[0].name == "buy"
    assert said.tool_calls[0].arguments == {"kind": "pen", "count": 1, "note": "x", "fixed": 3, "odd": None, "rest": ["a"]}


def test_an_environment_without_an_expert_passes():
    class Alone(Shop):
        @classmethod
        def expert(cls, config, *, flaws=None):
            raise NotImplementedError

    check_env(Alone)


def test_what_is_no_environment_is_refused():
    with pytest.raises(PluginError, match=r"derive it from agentdistill.env.AgentEnv"):
        check_env(dict)
    with pytest.raises(ConfigError, match=r"no env 'maht'; available: .*math.*did you mean 'math'"):
        check_env("maht")


def test_files_that_the_user_chose_and_that_are_bad_are_the_users_to_mend(tmp_path):
    with pytest.raises(TaskError, match=r"no task file .*nope\.jsonl"):
        check_env(MathEnv, config=MathConfig(tasks=str(tmp_path / "no" / "nope.jsonl")))
    rows = [json.dumps({"id": f"row-{index}", "question": f"{index}+1?", "answer": f"#### {index + 1}"}) for index in range(4)]
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(rows))
    with pytest.raises(
        TaskError, match="tasks chosen for environment 'math': task 'row-0' is in 'train' and in 'val'; keep the splits apart"
    ):
        check_env(MathEnv, config=MathConfig(tasks=str(tmp_path)))


def test_a_bad_row_that_is_only_read_when_its_task_is_wanted_is_the_users_too():
    class Lazy(Shop):
        @classmethod
        def load_tasks(cls, config, split):
            super().load_tasks(config, split)

            def make(index):
                raise TaskError(f"{config.tasks}:{index + 1}: no day")

            return TaskSet.from_source("shop", make, 3, split=split)

    with pytest.raises(TaskError, match=r"^mine\.jsonl:1: no day$"):
        check_env(Lazy, config=ShopConfig(tasks="mine.jsonl"))
    with pytest.raises(PluginError, match="reading the tasks of 'train' raised TaskError: nano:1: no day; return a TaskSet"):
        check_env(Lazy)


def test_every_environment_that_was_made_is_closed_again():
    opened = []

    class Door(Shop):
        def __init__(self, config=None, **kwargs):
            super().__init__(config, **kwargs)
            opened.append(self)

        def close(self):
            if self in opened:
                opened.remove(self)

    check_env(Door)
    assert opened == []


def test_an_environment_without_render_modes_passes():
    class Plain(Shop):
        metadata = {"render_modes": []}  # noqa: RUF012

        def render(self):
            raise NotImplementedError

    check_env(Plain)


def test_a_long_episode_is_played_for_a_while_only():
    class Patient(Shop):
        def answer(self, message):
            right = message.content == self.task.answer
            return Reply(parts={"answer": float(right)}, done=right, success=right or None)

    check_env(Patient, config=ShopConfig(max_turns=10**6), tasks=1)


def test_an_observation_outside_its_space_is_refused():
    class Verbose(AgentEnv):
        name = "shop"
        load_tasks = Shop.load_tasks

        def respond(self, message):
            return Reply(messages=(Message.user("x" * (1 << 21)),))

    with pytest.raises(PluginError, match="outside the observation space; raise the bounds"):
        check_env(Verbose)
