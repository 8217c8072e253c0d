"""Environments that break one promise each, in what they declare, load or are built from; ``@breaks`` says how check_env names it."""

from __future__ import annotations

from gymnasium import spaces

from agentdistill.env import AgentEnv, EnvConfig, Reply, tool
from agentdistill.errors import TaskError
from agentdistill.taskset import TaskSet
from agentdistill.types import Message, ToolSpec, Views

from .breaks import breaks
from .toys import Shop


@breaks("its name is ''; set the class attribute 'name'")
class Nameless(Shop):
    name = ""


@breaks("action space does not hold messages; leave the spaces that AgentEnv.__init__ sets|asking its action space")
class OwnSpace(Shop):
    def __init__(self, config=None, **kwargs):
        super().__init__(config, **kwargs)
        self.action_space = spaces.Discrete(3)


@breaks("building it raised TypeError.*hand them to super")
class NoClock(Shop):
    def __init__(self, config=None):
        super().__init__(config)


@breaks("parameter 'item' of tool 'sell' has no type; annotate it|make every tool a function with typed")
class UntypedTool(Shop):
    @tool
    def sell(self, item):
        """Sells."""


@breaks("tool 'sell' has no description; write a docstring")
class Undocumented(Shop):
    @tool
    def sell(self, item: str) -> None: ...


@breaks("not a tuple of ToolSpec; return a tuple")
class ListOfTools(Shop):
    @property
    def tools(self):
        return list(super().tools)


@breaks("two tools have one name: price, price; rename one")
class TwoOfOneName(Shop):
    @property
    def tools(self):
        return super().tools * 2


@breaks("parameters of tool 'x' are no JSON schema of an object; use ToolEnv")
class NoSchema(Shop):
    @property
    def tools(self):
        return (ToolSpec(name="x", description="y", parameters={"type": "string"}),)


@breaks("accepts an unknown split; raise TaskError")
class AnySplit(Shop):
    @classmethod
    def load_tasks(cls, config, split):
        return super().load_tasks(config, split if split in ("train", "val", "test") else "train")


@breaks("does not name the valid ones: no; raise TaskError naming train, val, test")
class VagueSplit(Shop):
    @classmethod
    def load_tasks(cls, config, split):
        try:
            return super().load_tasks(config, split)
        except TaskError:
            raise TaskError("no") from None


@breaks("unknown split raised KeyError; raise TaskError")
class CrashingSplit(Shop):
    @classmethod
    def load_tasks(cls, config, split):
        return TaskSet("shop", {"train": [cls.make_task(0)], "val": [cls.make_task(1)], "test": [cls.make_task(2)]}[split], split=split)


@breaks(r"'val'\) raised TaskError: the task set 'shop' \(val\) is empty.*; return a TaskSet for each of train, val, test")
class EmptySplit(Shop):
    @classmethod
    def load_tasks(cls, config, split):
        return TaskSet("shop", [], split=split) if split == "val" else super().load_tasks(config, split)


@breaks(r"load_tasks\(config, 'train'\) returned a list; return TaskSet\(name, tasks, split='train'\)")
class ListOfTasks(Shop):
    @classmethod
    def load_tasks(cls, config, split):
        return list(super().load_tasks(config, split))


@breaks(r"raised NotImplementedError: NoTasks does not say where its tasks come from; override load_tasks.*; return a TaskSet")
class NoTasks(AgentEnv):
    name = "shop"

    def respond(self, message):
        return Reply(done=True)


@breaks("the tasks of 'train' hold a dict; put agentdistill.types.Task")
class RowsForTasks(Shop):
    @classmethod
    def load_tasks(cls, config, split):
        class Rows(TaskSet):
            hash = "same"

        found = Rows("shop", list(super().load_tasks(config, split)), split=split)
        found._tasks = [{"id": 1}]
        return found


@breaks("reading the tasks of 'train' raised ZeroDivisionError.*; return a TaskSet")
class CrashingMaker(Shop):
    @classmethod
    def load_tasks(cls, config, split):
        super().load_tasks(config, split)
        return TaskSet.from_source("shop", lambda index: cls.make_task(index // 0), 3, split=split)


@breaks(r"load_tasks\(config, 'train'\) raised SystemExit: no licence; return a TaskSet")
class QuitsWhileLoading(Shop):
    @classmethod
    def load_tasks(cls, config, split):
        raise SystemExit("no licence")


@breaks(r"building it raised RuntimeError: no licence; take \(config")
class CrashingInit(Shop):
    def __init__(self, config=None, **kwargs):
        super().__init__(config, **kwargs)
        raise RuntimeError("no licence")


@breaks(r"building it raised SystemExit: 3; take \(config")
class QuitsInInit(Shop):
    def __init__(self, config=None, **kwargs):
        super().__init__(config, **kwargs)
        raise SystemExit(3)


@breaks(r"expert\(config\) raised FileNotFoundError: demonstrations.json; .*raise NotImplementedError where there is none")
class NoExpertObject(Shop):
    @classmethod
    def expert(cls, config, *, flaws=None):
        raise FileNotFoundError("demonstrations.json")


@breaks(r"expert\(config\) raised SystemExit: no expert; ")
class QuitsForTheExpert(Shop):
    @classmethod
    def expert(cls, config, *, flaws=None):
        raise SystemExit("no expert")


@breaks("the expert, on task 'shop-6', returned '42'; return a Message of the assistant's")
class ExpertOfText(Shop):
    @classmethod
    def expert(cls, config, *, flaws=None):
        class Writer:
            def act(self, task, messages, rng):
                return str(task.answer)

        return Writer()


class CrashingConfig(EnvConfig):
    def __init__(self, **values):
        raise OSError("no settings")


@breaks(r"Config cannot be built without arguments \(no settings\); give every field a default")
class Unconfigurable(Shop):
    Config = CrashingConfig


@breaks("task 'shop-0' is in 'train' and in 'test'; keep the splits apart")
class Overlapping(Shop):
    @classmethod
    def load_tasks(cls, config, split):
        return super().load_tasks(config, "train" if split == "test" else split)


@breaks("loading 'train' twice gives different tasks; make tasks a function")
class FreshTasks(Shop):
    @classmethod
    def load_tasks(cls, config, split):
        tasks = super().load_tasks(config, split)
        return TaskSet("shop", [task.model_copy(update={"data": {"day": 1, "x": id(tasks)}}) for task in tasks], split=split)


@breaks("says env='code'; set Task.env to 'shop'")
class ForeignTasks(Shop):
    @classmethod
    def load_tasks(cls, config, split):
        return TaskSet("shop", [task.model_copy(update={"env": "code"}) for task in super().load_tasks(config, split)], split=split)


@breaks("leaves nothing to answer; end it with a message of the user's")
class NothingToAnswer(Shop):
    @classmethod
    def load_tasks(cls, config, split):
        return TaskSet("shop", [task.model_copy(update={"prompt": ()}) for task in super().load_tasks(config, split)], split=split)


@breaks("its expert fails task 'shop-6'; mend the expert")
class WrongExpert(Shop):
    @classmethod
    def expert(cls, config, *, flaws=None):
        class Fool:
            def act(self, task, messages, rng):
                return Message.assistant("no idea")

        return Fool()


@breaks("the expert, on task 'shop-6', raised KeyError.*; let it act from any conversation")
class CrashingExpert(Shop):
    @classmethod
    def expert(cls, config, *, flaws=None):
        class Absent:
            def act(self, task, messages, rng):
                raise KeyError("expression")

        return Absent()


@breaks(r"promises a value of 0.5 for task 'shop-6', and the expert gets 1.0; give the exact return")
class WrongValue(Shop):
    def views(self):
        return Views(value=0.5)


@breaks("Gymnasium's checker raised.*seed")
class FixedSeed(Shop):
    def reset(self, *, seed=0, options=None):
        return super().reset(seed=seed, options=options)


class NoDefault(EnvConfig):
    must: int


@breaks("Config cannot be built without arguments.*; give every field a default")
class Demanding(Shop):
    Config = NoDefault


@breaks("is no EnvConfig; derive it from")
class OddConfig(Shop):
    Config = dict
