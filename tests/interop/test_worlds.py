"""reasoning-gym, textarena and skyrl-gym as environments: the real packages where they are installed, and worlds of their shape."""

from __future__ import annotations

import json
import random

import pytest

from agentdistill.env import check_env
from agentdistill.errors import ConfigError, EnvError, PluginError, TaskError
from agentdistill.interop.reasoning_gym_env import ReasoningGymConfig, ReasoningGymEnv, answers
from agentdistill.interop.skyrl_gym_env import SkyRLGymConfig, SkyRLGymEnv
from agentdistill.interop.textarena_env import TextArenaConfig, TextArenaEnv

WORLDS = "interop.worlds"


def begun(kind, config, index=0):
    env = kind(config)
    env.reset(options={"task": kind.load_tasks(config, "train")[index]})
    return env


pytest.importorskip("reasoning_gym")
pytest.importorskip("textarena")

# ---- reasoning-gym ------------------------------------------------------------------------------------------------------


@pytest.mark.ci
@pytest.mark.parametrize("name", ["chain_sum", "countdown", "tower_of_hanoi", "n_queens", "rush_hour", "polynomial_multiplication"])
def test_generators_keep_the_contract_and_their_own_answers_are_right(name):
    config = ReasoningGymConfig(dataset=name, count=4)
    check_env(ReasoningGymEnv, config=config)
    env = ReasoningGymEnv(config)
    for split in ("train", "val", "test"):
        for task in ReasoningGymEnv.load_tasks(config, split):
            env.reset(options={"task": task})
            if task.answer is not None:
                assert env.step(str(task.answer))[4]["success"] is True


def test_tries_are_given_feedback_and_the_rewards_sum_to_the_best_score():
    env = begun(ReasoningGymEnv, ReasoningGymConfig(count=2, tries=3, feedback="No."))
    observation, reward, over, _, info = env.step("-99999")
    assert observation[0].content == "No."
    assert not over
    assert 0 <= reward < 0.5
    assert info["views"].feedback.startswith("The best answer so far scores")
    _, gain, over, _, info = env.step(f"Let me see. <answer>{env.task.answer}</answer>")
    assert reward + gain == pytest.approx(1.0)
    assert over
    assert info["success"] is True
    env = begun(ReasoningGymEnv, ReasoningGymConfig(count=2, tries=1, reward="success"))
    observation, reward, over, _, info = env.step("-99999")
    assert (observation, reward, over, info["success"]) == ((), 0.0, True, False)


def test_answers_are_tagged_boxed_labelled_or_all_of_it():
    assert answers("a <answer> 1 </answer> b <answer>2\n3</answer>") == ["2\n3"]
    assert answers("so \\boxed{4}") == ["4"]
    assert answers("The answer is: 5.") == ["5"]
    assert answers("A sentence.") == ["A sentence.", "A sentence"]


def test_what_a_scorer_would_evaluate_is_not_evaluated(tmp_path):
    env = begun(ReasoningGymEnv, ReasoningGymConfig(dataset="n_queens", count=1, tries=9))
    target = tmp_path / "x"
    assert env.step(f"open({str(target)!r}, 'w')")[1] == 0.0
    assert env.step("9**9**9**9")[1] == 0.0
    assert not target.exists()


def test_settings_and_levels_reach_the_generator():
    few = ReasoningGymConfig(count=1, dataset_config={"min_terms": 9, "max_terms": 9})
    assert ReasoningGymEnv.load_tasks(few, "train")[0].prompt[-1].content.count(" ") > 15
    low, high = (ReasoningGymEnv.load_tasks(ReasoningGymConfig(count=1, level=level), "val")[0].prompt for level in (0, 99))
    assert low != high
    one = ReasoningGymConfig(count=1, level={"num_terms": 1})
    assert ReasoningGymEnv.load_tasks(one, "train")[0].answer is not None
    mixed = ReasoningGymConfig(
        dataset="composite", count=3, dataset_config={"datasets": [{"name": "chain_sum"}, {"name": "countdown", "weight": 2}]}
    )
    check_env(ReasoningGymEnv, config=mixed)


@pytest.mark.parametrize(
    ("fields", "kind", "words"),
    [
        ({"dataset": "chain_som"}, TaskError, "did you mean 'chain_sum'"),
        ({"dataset_config": {"min_term": 2}}, ConfigError, "did you mean 'min_terms'"),
        ({"dataset_config": {"min_terms": 9, "max_terms": 2}}, ConfigError, "does not take"),
        ({"level": {"terms": 1}}, ConfigError, "attribute of the curriculum of 'chain_sum' 'terms'"),
        ({"level": {"num_terms": 99}}, ConfigError, "must lie within 0 and"),
        ({"dataset": "composite", "level": 1}, ConfigError, "no curriculum"),
        ({"dataset": "composite", "dataset_config": {"datasets": [{"nam": "chain_sum"}]}}, ConfigError, "name, weight and config"),
    ],
)
def test_bad_settings_of_generators_are_named(fields, kind, words):
    with pytest.raises(kind, match=words):
        ReasoningGymEnv.load_tasks(ReasoningGymConfig(**fields), "train")


# ---- textarena ----------------------------------------------------------------------------------------------------------

OFFLINE = [
    "2048",
    "Bandit",
    "Blackjack",
    "Countdown",
    "Crosswords",
    "Cryptarithm",
    "FifteenPuzzle",
    "FrozenLake",
    "GuessTheNumber",
    "LightsOut",
    "LogicPuzzle",
    "Mastermind",
    "Minesweeper",
    "PegJump",
    "RushHour",
    "Secretary",
    "Set",
    "Slitherlink",
    "Sokoban",
    "Sudoku",
    "ThreeCardMonte",
    "TowerOfHanoi",
]
"""Every single-player game of the package but those that want a hosted model or word lists, and one that Python 3.11 does not compile."""


@pytest.mark.ci
@pytest.mark.parametrize("game", OFFLINE)
def test_offline_games_keep_the_contract_and_play_twenty_episodes(game):
    config = TextArenaConfig(game=f"{game}-v0", count=20, max_turns=12)
    check_env(TextArenaEnv, config=config)
    env = TextArenaEnv(config)
    for task in TextArenaEnv.load_tasks(config, "train"):
        env.reset(options={"task": task})
        while not env.over:
            env.step(f"[{env.turn} A B]")
        assert env.turn >= 1


def test_a_game_is_won_by_its_moves_and_only_new_words_are_sent(capsys):
    env = begun(TextArenaEnv, TextArenaConfig(count=3))
    moves = ["[A C]", "[A B]", "[C B]", "[A C]", "[B A]", "[B C]", "[A C]"]
    lengths = []
    for move in moves:
        observation, reward, over, _, info = env.step(move)
        lengths.append(len(observation[0].content))
    assert (reward, over, info["success"]) == (1.0, True, True)
    assert max(lengths) < 800
    assert capsys.readouterr().out == ""


def test_interleaved_games_have_each_its_own_chance():
    config = TextArenaConfig(game="Bandit-v0", count=2)

    def play(beside: bool) -> list[str]:
        env, other = begun(TextArenaEnv, config), begun(TextArenaEnv, config, 1)
        said = []
        for _ in range(6):
            said.append(env.step("[red]")[0][0].content)
            if beside:
                other.step("[blue]")
                random.random()
        return said

    assert play(False) == play(True)


@pytest.mark.parametrize(
    ("fields", "kind", "words"),
    [
        ({"game": "TowerOfHano-v0"}, ConfigError, "did you mean 'TowerOfHanoi-v0'"),
        ({"game": "TicTacToe-v0"}, ConfigError, "single-player"),
        ({"game": "Briscola-v0"}, ConfigError, "does not begin for one player .ValueError: Briscola supports 2"),
        ({"kwargs": {"disks": 3}}, ConfigError, "cannot be made with env.kwargs"),
        ({"game": "TwentyQuestions-v0"}, ConfigError, "cannot be played here: .*API_KEY"),
        ({"game": "Klondike-v0"}, PluginError, "does not load: SyntaxError"),
    ],
)
def test_games_that_cannot_be_played_say_why(fields, kind, words, monkeypatch):
    monkeypatch.delenv("OPENROUTER_API_KEY", raising=False)
    with pytest.raises(kind, match=words):
        TextArenaEnv.load_tasks(TextArenaConfig(**fields), "train")


def test_missing_word_lists_are_named(monkeypatch):
    import textarena

    def absent(game, **_):
        raise LookupError("\n***\n  Resource 'words' not found.\n  Please use")

    monkeypatch.setattr(textarena, "make", absent)
    with pytest.raises(ConfigError, match=r"Resource 'words' not found.*python -m nltk.downloader words"):
        TextArenaEnv.load_tasks(TextArenaConfig(game="Wordle-v0-long"), "train")


# ---- skyrl-gym ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    prompt = [{"role": "system", "content": "Guess."}, {"role": "user", "content": "A number?"}]
    made = [{"prompt": prompt if n % 2 else f"Number {n}?", "reward_spec": {"ground_truth": str(n)}, "n": n} for n in range(60)]
    path.write_text("\n".join(map(json.dumps, made)))
    return path


def test_a_class_of_the_shape_plays_rows_without_the_package(rows):
    config = SkyRLGymConfig(cls=f"{WORLDS}:Guess", tasks=str(rows), env_config={"hint": "higher"}, max_turns=3)
    check_env(SkyRLGymEnv, config=config)
    env = begun(SkyRLGymEnv, config, 1)
    inner = env._inner
    assert env.messages[-1].content.startswith("draw ")
    observation, reward, over, _, _ = env.step("no")
    assert (observation[0].content, reward, over) == ("hint: higher\nn: 3", 0.0, False)
    _, reward, over, _, info = env.step(str(env.task.answer))
    assert (reward, over, info["success"]) == (1.0, True, True)
    env.close()
    assert inner.closed
    system = begun(SkyRLGymEnv, config.model_copy(update={"system": "Be brief."}), 1)
    assert [message.content for message in system.messages if message.role == "system"] == ["Be brief."]


@pytest.mark.parametrize("cls", ["Plain", "Attributes"])
def test_odd_shapes_keep_the_contract(cls):
    config = SkyRLGymConfig(cls=f"{WORLDS}:{cls}", max_turns=4)
    check_env(SkyRLGymEnv, config=config)
    env = begun(SkyRLGymEnv, config)
    assert env.step("x")[0][0].content in ("bytes", "text")
    assert env.step("end")[4]["success"] is True


def test_splits_of_a_file_and_of_a_directory(rows, tmp_path):
    config = SkyRLGymConfig(cls=f"{WORLDS}:Guess", tasks=str(rows))
    sizes = [len(SkyRLGymEnv.load_tasks(config, split)) for split in ("train", "val", "test")]
    assert sum(sizes) == 60
    with pytest.raises(TaskError, match=r"val\.jsonl"):
        SkyRLGymEnv.load_tasks(config.model_copy(update={"tasks": str(tmp_path)}), "val")
    with pytest.raises(TaskError, match=r"no task set of env 'skyrl_gym' 'exampel'.*did you mean 'example'"):
        SkyRLGymEnv.load_tasks(SkyRLGymConfig(cls=f"{WORLDS}:Guess", tasks="exampel"), "val")
    with pytest.raises(TaskError, match="train"):
        SkyRLGymEnv.load_tasks(config, "dev")
    (tmp_path / "one.jsonl").write_text('{"prompt": "x"}')
    one = config.model_copy(update={"tasks": str(tmp_path / "one.jsonl")})
    with pytest.raises(TaskError, match="rows none"):
        SkyRLGymEnv.load_tasks(one, "val")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({}, "lacks the field 'prompt'"),
        ({"prompt": []}, "a text, or a list of messages"),
        ({"prompt": [{"role": "x", "content": ""}]}, "role in 'prompt'"),
    ],
)
def test_bad_rows_are_named_with_their_line(row, words, tmp_path):
    (tmp_path / "train.jsonl").write_text(json.dumps(row))
    with pytest.raises(TaskError, match=f"train.jsonl:1: .*{words}"):
        SkyRLGymEnv.load_tasks(SkyRLGymConfig(cls=f"{WORLDS}:Guess", tasks=str(tmp_path)), "train")


@pytest.mark.parametrize(
    ("cls", "kind", "words"),
    [
        ("worlds", ConfigError, "must be module:Class"),
        ("no_such_module_here:X", ConfigError, "no module 'no_such_module_here'"),
        (f"{WORLDS}:Gues", ConfigError, "did you mean 'Guess'"),
        (f"{WORLDS}:NoStep", ConfigError, "no method 'step'"),
    ],
)
def test_a_class_that_is_not_there_or_of_another_shape_is_refused(cls, kind, words):
    with pytest.raises(kind, match=words):
        SkyRLGymEnv.load_tasks(SkyRLGymConfig(cls=cls), "train")


def test_steps_and_rows_that_do_not_fit_are_told(tmp_path):
    env = begun(SkyRLGymEnv, SkyRLGymConfig(cls=f"{WORLDS}:Attributes"))
    env._inner = type("Bad", (), {"step": lambda self, text: {"done": True}})()
    with pytest.raises(EnvError, match="must return a mapping with observations, reward, done and metadata, got 'done'"):
        env.step("x")
    with pytest.raises(EnvError, match="leaves nothing to answer"):
        begun(SkyRLGymEnv, SkyRLGymConfig(cls=f"{WORLDS}:Speechless"))
    (tmp_path / "train.jsonl").write_text('{"prompt": "x"}')
    with pytest.raises(TaskError, match="cannot be made of this row"):
        begun(SkyRLGymEnv, SkyRLGymConfig(cls=f"{WORLDS}:Guess", tasks=str(tmp_path)))


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "skyrl_gym", None)
    with pytest.raises(ConfigError, match="skyrl-gym"):
        SkyRLGymEnv.load_tasks(SkyRLGymConfig(), "train")
