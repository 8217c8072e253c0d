"""Task sets: nano, files of the user's, generators."""

import json
from types import SimpleNamespace

import pytest
from agentdistill_envs.math import MathConfig, MathEnv, generated
from agentdistill_envs.math.tasks import FREE_SYSTEM, row_answer

from agentdistill.errors import ConfigError, TaskError

GSM = {"question": "Natalia sold 48 clips in April and half as many in May. How many in all?", "answer": "48/2=<<48/2=24>>24\n#### 72"}
MATH = {"problem": "What is half of one?", "solution": "It is $\\boxed{\\frac{1}{2}}$.", "level": "Level 1"}


def write(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return str(path)


def load(tasks, split="train", **config):
    return MathEnv.load_tasks(MathConfig(tasks=str(tasks), **config), split)


def test_nano_is_loaded_once_and_filtered_by_calls():
    assert load("nano", "test") is load("nano", "test")
    assert len(load("nano", "test")) == 512
    for calls in ((2, 2), (3, 4), (4, 4)):
        tasks = load("nano", "test", calls=calls)
        assert {task.data["calls"] for task in tasks} == set(range(calls[0], calls[1] + 1))
    assert load("nano", "test", calls=(4, 4))[0].tags == ("nano", "expression", "calls-4")


def test_calls_that_no_task_has_are_refused():
    with pytest.raises(TaskError, match=r"no nano task has 5 to 9 operations; calls=\[lowest, highest\] lies within"):
        load("nano", calls=(5, 9))
    for wrong in ((4, 3), (0, 2)):
        with pytest.raises(ValueError, match="must be"):
            MathConfig(calls=wrong)


@pytest.mark.parametrize("tasks", ["nano", "reasoning_gym:chain_sum"])
def test_an_unknown_split_names_the_valid_ones(tasks):
    with pytest.raises(TaskError, match="no split 'tset'; available: test, train, val; did you mean 'test'"):
        load(tasks, "tset")


def test_files_in_the_form_of_gsm8k_and_math_are_read(tmp_path):
    for split in ("train", "val", "test"):
        write(
            tmp_path / "set" / f"{split}.jsonl",
            GSM,
            MATH,
            {"question": "1+1?", "answer": 2, "id": 7},
            {"question": "1+2?", "answer": "\\boxed{3}"},
        )
    tasks = load(tmp_path / "set", "val")
    assert (tasks.name, tasks.split, len(tasks)) == ("set", "val", 4)
    assert [task.answer for task in tasks] == ["72", "\\frac{1}{2}", "2", "3"]
    assert tasks[2].id == "7"
    assert tasks[0].prompt[0].content == FREE_SYSTEM
    assert tasks[0].prompt[1].content == GSM["question"]


def test_a_single_file_is_split_by_its_questions_and_nothing_is_in_two(tmp_path):
    rows = [{"question": f"What is {index}+1?", "answer": str(index + 1)} for index in range(400)]
    path = write(tmp_path / "all.jsonl", *rows)
    splits = {split: {task.prompt[-1].content for task in load(path, split)} for split in ("train", "val", "test")}
    assert sum(len(questions) for questions in splits.values()) == len(set.union(*splits.values())) == 400
    assert 20 < len(splits["test"]) < 70
    path = write(tmp_path / "all.jsonl", {"question": "new", "answer": "1"}, *reversed(rows))
    assert splits["test"] <= {task.prompt[-1].content for task in load(path, "test")}


def test_one_question_twice_gets_two_ids(tmp_path):
    for split in ("train", "val", "test"):
        write(tmp_path / f"{split}.jsonl", GSM, GSM)
    first, second = load(tmp_path)
    assert second.id == f"{first.id}-2"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("{", "2: not valid JSON"),
        ({"answer": "1"}, "2: the row lacks a question: a field 'question' or 'problem'; it has 'answer'"),
        ({"question": "  ", "answer": "1"}, "2: the field 'question' must be a text that is not empty"),
        ({"question": 3, "answer": "1"}, "2: the field 'question' must be a text"),
        ({"question": "x"}, "2: the row lacks an answer: a field 'answer', or a"),
        ({"problem": "x", "solution": "no box"}, "2: the row lacks an answer"),
        ({"question": "x", "answer": " "}, "2: the row lacks an answer"),
        ({"question": "x", "answer": True}, "2: the row lacks an answer"),
        ([1], "2: a row must be a JSON object"),
    ],
)
def test_a_bad_row_is_refused_with_file_and_line(tmp_path, row, words):
    path = write(tmp_path / "bad.jsonl", GSM, row)
    with pytest.raises(TaskError) as caught:
        load(path)
    assert f"bad.jsonl:{words}" in str(caught.value)


def test_what_is_neither_a_name_nor_a_path_is_refused():
    with pytest.raises(TaskError, match=r"no task set of env 'math' 'nanoo'; .*did you mean 'nano'\?; or the path of a .jsonl file"):
        load("nanoo")


def test_missing_and_empty_files_are_refused(tmp_path):
    with pytest.raises(TaskError, match=r"no-such\.jsonl"):
        load(tmp_path / "no-such.jsonl")
    write(tmp_path / "train.jsonl", GSM)
    with pytest.raises(TaskError, match=r"val\.jsonl"):
        load(tmp_path, "val")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(TaskError, match="empty"):
        load(tmp_path / "empty.jsonl")


def test_a_file_too_small_to_be_split_says_what_to_do(tmp_path):
    path = write(tmp_path / "one.jsonl", GSM)
    with pytest.raises(TaskError, match=r"none falls into the split 'test'.*give a directory with train.jsonl, val.jsonl, test.jsonl"):
        load(path, "test")


def test_calls_choose_among_nano_tasks_only(tmp_path):
    with pytest.raises(TaskError, match="chooses among nano tasks; leave it out"):
        load(write(tmp_path / "x.jsonl", GSM), calls=(2, 3))


def test_answers_of_rows():
    assert row_answer({"answer": "a\n#### 1,000"}) == "1,000"
    assert row_answer({"answer": 2.5}) == "2.5"
    assert row_answer({"answer": None, "solution": "\\boxed{x}"}) == "x"


# ---- generators ----------------------------------------------------------------------------------------------------


class Sums:
    """Stands for a generator of reasoning-gym."""

    def __init__(self, seed: int, size: int) -> None:
        self.seed, self.size = seed, size

    def __getitem__(self, index: int) -> dict[str, object]:
        number = self.seed % 97 + index
        return {"question": f"{number}+1 = ?", "answer": str(number + 1), "metadata": {}}

    def score_answer(self, answer: str, entry: dict[str, object]) -> float:
        return 1.0 if answer == entry["answer"] else 0.01


@pytest.fixture
def gym(monkeypatch):
    package = SimpleNamespace(create_dataset=lambda name, seed, size: Sums(seed, size))
    monkeypatch.setitem(__import__("sys").modules, "reasoning_gym", package)
    monkeypatch.setitem(__import__("sys").modules, "reasoning_gym.factory", SimpleNamespace(DATASETS={"sums": Sums}))
    generated.generator.cache_clear()
    yield
    generated.generator.cache_clear()


def test_a_generators_tasks_are_played_and_graded_by_its_own_scorer(gym):
    config = MathConfig(tasks="reasoning_gym:sums", generated=5)
    tasks = MathEnv.load_tasks(config, "val")
    assert len(tasks) == 5
    assert tasks.hash == MathEnv.load_tasks(config, "val").hash
    env = MathEnv(config)
    _, info = env.reset(options={"task": tasks[3]})
    assert info["views"].answer == tasks[3].answer
    assert env.step("9**9**9")[1] == 0.0
    assert env.step(f"\\boxed{{{tasks[3].answer}}}")[1] == 1.0


def test_an_unknown_generator_is_refused(gym):
    with pytest.raises(TaskError, match="no reasoning-gym generator 'sum'; available: sums; did you mean 'sums'"):
        load("reasoning_gym:sum")


def test_the_missing_package_is_named_with_the_extra_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "reasoning_gym", None)
    generated.generator.cache_clear()
    with pytest.raises(ConfigError, match=r"needs the package reasoning-gym .*pip install 'agentdistill\[reasoning-gym\]'"):
        load("reasoning_gym:chain_sum")


def test_the_real_package_works_where_it_is_installed():
    pytest.importorskip("reasoning_gym")
    generated.generator.cache_clear()
    config = MathConfig(tasks="reasoning_gym:chain_sum", generated=4)
    env = MathEnv(config)
    for task in MathEnv.load_tasks(config, "test"):
        env.reset(options={"task": task})
        assert env.step(str(task.answer))[2]
        env.reset(options={"task": task})
        assert not env.step("-123456")[2]
    with pytest.raises(TaskError, match="did you mean 'chain_sum'"):
        MathEnv.load_tasks(MathConfig(tasks="reasoning_gym:chainsum"), "train")
