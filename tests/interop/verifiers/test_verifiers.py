"""env=verifiers: against verifiers 0.4 where it is installed, else against a double that follows its source."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
from foreign_worlds import play_twenty, train_two_steps, trained

from agentdistill.config import compose_train
from agentdistill.env import check_env
from agentdistill.errors import ConfigError, EnvError, PluginError, TaskError
from agentdistill.interop.verifiers import VerifiersConfig, VerifiersEnv
from agentdistill.interop.verifiers.load import _load
from agentdistill.interop.verifiers.score import trace_of
from agentdistill.policy.protocol import Request
from agentdistill.types import Message, ToolCall


def config(what: str = "", **changes: Any) -> VerifiersConfig:
    return VerifiersConfig(taskset="sums-v1", **{"options": {"what": what, **changes.pop("options", {})}, **changes})


def play(what: str = "", said: Message | str = "x", **changes: Any) -> Any:
    env = VerifiersEnv(config(what, **changes))
    env.reset(options={"task": VerifiersEnv.load_tasks(env.config, "train")[0]})
    return env.step(said)


# ---- the contract, whole episodes, and training ----------------------------------------------------------------------------


def test_it_keeps_the_contract_of_environments() -> None:
    check_env(VerifiersEnv, config=config())


def answer(request: Request) -> str:
    assert request.task is not None
    return str(request.task.answer) if request.task.data["index"] else "wrong"


@pytest.mark.parametrize("workers", [0, 4])
def test_twenty_episodes_are_scored_by_the_tasksets_own_rewards(workers: int) -> None:
    episodes = play_twenty(VerifiersEnv, config(), answer, workers=workers)
    assert [(episode.reward, episode.success) for episode in episodes] == [(0.25, False)] + [(1.0, True)] * 19
    assert episodes[1].reward_parts == {"right": 0.75, "short": 0.25}
    assert [message.content for message in episodes[1].prompt] == ["Reply with the number.", "What is 1+1?"]


@pytest.mark.ci
def test_a_student_trains_on_it(tmp_path: Path) -> None:
    run = train_two_steps(tmp_path, "env=verifiers", "env.taskset=sums-v1", "method=grpo", "method.group_size=2")
    assert trained(run) == 2


# ---- tasks --------------------------------------------------------------------------------------------------------------------


def test_of_ten_tasks_eight_are_for_training() -> None:
    sizes = {split: len(VerifiersEnv.load_tasks(config(), split)) for split in ("train", "val", "test")}
    assert sizes == {"train": 32, "val": 4, "test": 4}
    few = {split: [task.data["index"] for task in VerifiersEnv.load_tasks(config(options={"size": 4}), split)] for split in sizes}
    assert few == {"train": [0, 1], "val": [2], "test": [3]}


def test_an_endless_taskset_is_read_as_far_as_is_asked() -> None:
    assert len(VerifiersEnv.load_tasks(config("endless", count=30), "train")) == 24


def test_a_conversation_may_begin_with_several_messages_and_a_picture_is_noted() -> None:
    (task, *_) = VerifiersEnv.load_tasks(config("chat"), "train")
    assert [(message.role, message.content) for message in task.prompt[1:]] == [
        ("user", "Hello"),
        ("assistant", "Yes?"),
        ("user", "What is 0+1?"),
    ]
    assert play("chat", "1")[1] == 1.0
    assert VerifiersEnv.load_tasks(config("picture"), "train")[0].prompt[-1].content == "[image, not shown]\nWhat is it?"


def test_an_answer_that_is_no_json_is_kept_from_the_record() -> None:
    assert VerifiersEnv.load_tasks(config(), "train")[0].answer == "1"
    env = VerifiersEnv(config("odd answer"))
    env.reset(options={"task": VerifiersEnv.load_tasks(env.config, "train")[0]})
    assert env.task.answer is None
    assert env.views().answer is None


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("container", "its task Boxed needs a container"),
        ("setup", r"its task Prepared has setup\(\), which needs a runtime"),
        ("tools", "its task Tooled has tools"),
        ("shared tools", "its taskset has tools"),
        ("unpaid", "its task Unpaid has no reward that is computed without a runtime"),
        ("user speaks", "task 0 has no prompt, and its user speaks first"),
        ("assistant ends", "task 0 ends with a message of the assistant's"),
        ("tool speaks", "task 0 begins with a message of role 'tool'"),
    ],
)
def test_what_needs_more_than_words_is_refused(what: str, told: str) -> None:
    with pytest.raises((ConfigError, TaskError), match=told):
        VerifiersEnv.load_tasks(config(what), "train")


def test_signals_that_need_a_runtime_are_left_out_and_named() -> None:
    with pytest.warns(RuntimeWarning, match="not computed, because they need a runtime: files"):
        assert play("partly", "1")[4]["reward_parts"] == {"right": 0.75, "short": 0.25}


def test_a_task_of_another_taskset_is_refused() -> None:
    env = VerifiersEnv(config(options={"size": 5}))
    for index, split in ((39, "test"), (1, "train")):
        task = next(task for task in VerifiersEnv.load_tasks(config("other"), split) if task.data["index"] == index)
        with pytest.raises(EnvError, match=f"has another task at {index}"):  # one past the end, one of other content
            env.reset(options={"task": task})


# ---- scores -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("raise", "scoring of task 0 failed: RuntimeError: no idea"),
        ("nan", "scoring of task 0 gave right=nan"),
        ("slow", "scoring of task 0 took longer than 0.2 s"),
    ],
)
def test_a_score_that_fails_costs_the_episode(what: str, told: str) -> None:
    with pytest.raises(EnvError, match=told):
        play(what, score_timeout=0.2 if what == "slow" else 60.0)


def test_calls_of_tools_are_answered_and_the_trace_has_them() -> None:
    env = VerifiersEnv(config())
    env.reset(seed=0)
    calls = (ToolCall(id="a", name="add", arguments={"x": 1}), ToolCall(id="b", name="", error="not JSON", raw="{"))
    observation, reward, done, _, info = env.step(Message.assistant("", *calls))
    assert [message.content for message in observation] == [
        "Error: there are no tools; reply with the answer",
        "Error: malformed tool call: not JSON",
    ]
    assert [result.error for result in info["tool_results"]] == ["unknown_tool", "malformed_call"]
    assert (reward, done) == (0.0, False)
    trace = trace_of(env._foreign, env.messages[:2], [*env.messages[2:], Message(role="assistant", content="1", reasoning="hm")])
    assert [node.message.role for node in trace.nodes] == ["system", "user", "assistant", "tool", "tool", "assistant"]
    assert [node.sampled for node in trace.nodes] == [False, False, True, False, False, True]
    assert [node.parent for node in trace.nodes] == [None, 0, 1, 2, 3, 4]
    assert [call.arguments for call in trace.nodes[2].message.tool_calls] == ['{"x": 1}', "{"]
    assert trace.nodes[-1].message.reasoning_content == "hm"
    assert env.step(str(env.task.answer))[1] == 1.0


# ---- what cannot be loaded ------------------------------------------------------------------------------------------------------


def test_a_taskset_that_cannot_be_loaded_is_told() -> None:
    for name, kind, told in (
        ("", ConfigError, r"needs a taskset: set env\.taskset"),
        ("no-such-taskset", ConfigError, r"taskset 'no-such-taskset' not found.*set env\.taskset to an installed"),
        ("json", PluginError, "the taskset 'json' does not load: TypeError"),
    ):
        with pytest.raises(kind, match=told):
            VerifiersEnv.load_tasks(VerifiersConfig(taskset=name), "train")


def test_wrong_options_name_the_right_ones() -> None:
    with pytest.raises(ConfigError, match=r"env.options of taskset 'sums-v1': sizee .*its options: .*size, what"):
        VerifiersEnv.load_tasks(config(options={"sizee": 1}), "train")


def test_a_taskset_that_fails_or_is_too_small_is_told() -> None:
    with pytest.raises(PluginError, match="the taskset 'sums-v1' fails: OSError: the data are gone"):
        VerifiersEnv.load_tasks(config("fail"), "train")
    with pytest.raises(TaskError, match="has 2 tasks; it takes three"):
        VerifiersEnv.load_tasks(config(options={"size": 2}), "train")
    with pytest.raises(TaskError, match="no split 'dev'"):
        VerifiersEnv.load_tasks(config(), "dev")


def test_an_old_verifiers_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    old = types.ModuleType("verifiers")
    old.__version__ = "0.1.14"  # type: ignore[attr-defined]
    old.load_environment = lambda id: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "verifiers", old)
    _load.cache_clear()
    with pytest.raises(ConfigError, match=r"tasksets of verifiers 0\.4 and later; installed is 0\.1\.14.*load_environment"):
        VerifiersEnv.load_tasks(config(), "train")


def test_the_command_line_reaches_it() -> None:
    env: Any = compose_train(["env=verifiers", "env.taskset=owner/sums-v1@1.0", "env.options.size=9"]).config.env
    assert (type(env), env.taskset, env.options) == (VerifiersConfig, "owner/sums-v1@1.0", {"size": 9})
    assert len(VerifiersEnv.load_tasks(env, "train")) == 7
