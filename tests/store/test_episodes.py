from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agentdistill.clock import SYSTEM_CLOCK, ManualClock
from agentdistill.errors import StoreError, UsageError
from agentdistill.store import EpisodeStore, Where
from agentdistill.types import Annotation, Feedback, Status, Timing, TrajectoryFeedback, Views
from tests.store import strategies
from tests.store.examples import a_long_episode, an_episode

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def store(tmp_path: Path) -> EpisodeStore:
    return EpisodeStore.create(tmp_path / "episodes.sqlite", clock=ManualClock(100.0))


def a_feedback(episode: str, score: float, version: str = "1") -> Feedback:
    judged = TrajectoryFeedback(score=score)
    return Feedback(episode=episode, teacher="t", teacher_version=version, access="white", token_logprobs=((-0.5,),), trajectory=judged)


# ---- what goes in comes out ------------------------------------------------------------------------------------------


def test_an_episode_is_there_for_a_reader_that_opens_the_file(store: EpisodeStore) -> None:
    episode = an_episode(views=Views(value=float("nan")))
    assert store.append_episodes([episode], step=3, kind="train") == 1
    with EpisodeStore.open(store.path) as reader:
        assert strategies.same(reader.episode(episode.id), episode)
        assert reader.episode(episode.id, views=False).turns[0].views is None
        assert strategies.same(reader.find(episode.id), episode)
        assert reader.find("math-0") is None
        assert reader.document(episode.id)["trajectory_id"] == episode.id
        assert reader.head("math-0") == {
            "id": "math-0-1",
            "group": "math-0",
            "env": "math",
            "task": "add",
            "step": 3,
            "kind": "train",
            "status": "ok",
            "stop": "completed",
            "reward": 1.0,
            "success": True,
            "turns": 1,
            "tokens": 7,
            "completion_tokens": 3,
            "version_low": 2,
            "version_high": 3,
            "created": 100.0,
        }


def test_a_reader_sees_what_is_appended_after_it_opened(store: EpisodeStore) -> None:
    with EpisodeStore.open(store.path) as reader:
        assert reader.count() == 0
        store.append_episodes([an_episode()], step=0, kind="train")
        assert reader.count() == 1


def test_a_reader_cannot_write(store: EpisodeStore) -> None:
    with EpisodeStore.open(store.path) as reader, pytest.raises(StoreError, match="readonly"):
        reader.append_episodes([an_episode()], step=0, kind="train")


def test_stream_gives_every_episode_once_in_the_order_of_storing(store: EpisodeStore) -> None:
    episodes = [a_long_episode(number) for number in reversed(range(150))]
    store.append_episodes(episodes, step=0, kind="train")
    assert [episode.id for episode in store.stream()] == [episode.id for episode in episodes]
    assert next(store.stream(Where(kind="eval")), None) is None


# ---- appending again -------------------------------------------------------------------------------------------------


def test_appending_an_equal_episode_again_changes_nothing_whatever_its_seconds(store: EpisodeStore) -> None:
    store.append_episodes([an_episode(timing=Timing(policy=1.0))], step=0, kind="train")
    assert store.append_episodes([an_episode(timing=Timing(policy=9.0)), an_episode("other")], step=0, kind="train") == 1
    assert store.count() == 2
    assert store.episode("math-0-1").turns[0].timing.policy == 1.0


def test_another_episode_under_a_taken_id_is_refused_and_its_batch_with_it(store: EpisodeStore) -> None:
    store.append_episodes([an_episode()], step=0, kind="train")
    with pytest.raises(StoreError, match=r"'math-0-1' in .*episodes.sqlite is stored already with different content"):
        store.append_episodes([an_episode("new"), an_episode(content="other")], step=0, kind="train")
    assert [head["id"] for head in store.heads()] == ["math-0-1"]


def test_the_later_feedback_of_one_key_counts_and_other_keys_stay(store: EpisodeStore) -> None:
    store.append_feedback([a_feedback("e", 0.1), a_feedback("e", 0.2, version="2")])
    store.append_feedback([a_feedback("e", 0.9)])
    assert store.feedback("e") == [a_feedback("e", 0.9), a_feedback("e", 0.2, version="2")]
    assert store.feedback("other") == []


def test_the_later_annotation_of_one_step_and_segment_counts(store: EpisodeStore) -> None:
    first, second = (Annotation(step=1, episode="e", segment=0, arrays={"loss": (value,)}) for value in (0.5, 0.25))
    later = Annotation(step=2, episode="e", segment=1, arrays={"loss": (0.125,), "entropy": (1.0,)})
    store.append_annotations([later, first])
    store.append_annotations([second])
    found = store.annotations("e")
    assert found[0] == second
    assert found[1] == later


def test_discarding_keeps_the_moment_of_the_checkpoint_and_forgets_what_followed(store: EpisodeStore) -> None:
    store.append_episodes([an_episode("train-9")], step=9, kind="train")
    store.append_episodes([an_episode("eval-10")], step=10, kind="eval")
    store.append_episodes([an_episode("train-10")], step=10, kind="train")
    store.append_episodes([an_episode("eval-20")], step=20, kind="eval")
    store.append_episodes([an_episode("end-10")], step=10, kind="after-greedy")
    store.append_feedback([a_feedback("train-9", 1.0), a_feedback("train-10", 1.0)])
    store.append_annotations([Annotation(step=step, episode=f"train-{step}", arrays={"loss": (0.0,)}) for step in (9, 10)])
    assert store.discard_after(10) == 3
    assert [head["id"] for head in store.heads()] == ["train-9", "eval-10"]
    assert (len(store.feedback("train-9")), len(store.feedback("train-10"))) == (1, 0)
    assert (len(store.annotations("train-9")), len(store.annotations("train-10"))) == (1, 0)
    store.append_episodes([an_episode("train-10", content="otherwise")], step=10, kind="train")
    assert store.discard_after(-1) == 3
    assert store.count() == 0


# ---- finding ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def full(store: EpisodeStore) -> EpisodeStore:
    for step in range(4):
        batch = [
            an_episode(
                f"train-{step}-{index}",
                group=f"g{step}",
                env="math" if step % 2 else "code",
                task=f"t{index}",
                reward=float(step + index),
                success=[True, False, None][index],
                status=Status.OK if index else Status.ENV_ERROR,
            )
            for index in range(3)
        ]
        store.append_episodes(batch, step=step, kind="train" if step else "eval")
    return store


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (Where(), 12),
        (Where(env="math"), 6),
        (Where(kind="eval"), 3),
        (Where(status=Status.ENV_ERROR), 4),
        (Where(success=True), 4),
        (Where(success=False), 4),
        (Where(task="t1"), 4),
        (Where(group="g2"), 3),
        (Where(step=(1, 2)), 6),
        (Where(step=2), 3),
        (Where(step=(None, 0)), 3),
        (Where(reward=(4.0, None)), 3),
        (Where(env="math", reward=(None, 1.0), kind="train"), 1),
        (Where(env="no such"), 0),
    ],
)
def test_filters_select_exactly(full: EpisodeStore, where: Where, expected: int) -> None:
    assert full.count(where) == expected
    assert len(full.heads(where)) == expected
    assert len(list(full.stream(where))) == expected


def test_order_limit_and_offset(full: EpisodeStore) -> None:
    best = full.heads(order="reward", descending=True, limit=2)
    assert [head["reward"] for head in best] == [5.0, 4.0]
    assert [head["id"] for head in full.heads(order="reward", descending=True, limit=2, offset=1)] == ["train-3-1", "train-2-2"]
    assert [head["id"] for head in full.heads(kind="eval", order="id")] == ["train-0-0", "train-0-1", "train-0-2"]


def test_a_return_that_is_no_number_is_null_in_the_index_and_nan_in_the_episode(store: EpisodeStore) -> None:
    store.append_episodes([an_episode(reward=float("nan"))], step=0, kind="train")
    assert store.heads()[0]["reward"] is None
    assert str(store.episode("math").reward) == "nan"


def test_an_id_may_be_shortened_as_long_as_it_is_unique(full: EpisodeStore) -> None:
    full.append_episodes([an_episode("train-0"), an_episode("eval%x")], step=0, kind="eval")
    assert full.resolve("train-0") == "train-0"
    assert full.resolve("eval") == "eval%x"
    with pytest.raises(UsageError, match="'train-1' is the beginning of several episodes: train-1-0, train-1-1, train-1-2; write more"):
        full.episode("train-1")
    with pytest.raises(UsageError, match=r"train-0-0, .*, …; write more"):
        full.episode("train")


@pytest.mark.parametrize("id", ["train-9-9", "", "%", "../../etc/passwd", "_rain", "x' OR 1=1 --"])
def test_an_unknown_id_is_one_sentence(full: EpisodeStore, id: str) -> None:
    with pytest.raises(UsageError, match=r"no episode .* among the 12|beginning of several"):
        full.episode(id)


def test_a_misspelt_id_gets_the_right_one_suggested(full: EpisodeStore, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'train-2-1'"):
        full.episode("trian-2-1")
    with pytest.raises(UsageError, match="has none yet"):
        EpisodeStore.create(tmp_path / "empty.sqlite").episode("train-2-1")


# ---- damage ----------------------------------------------------------------------------------------------------------


def test_a_missing_file_an_existing_file_and_a_foreign_file_are_named(store: EpisodeStore, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no episode store at .*absent"):
        EpisodeStore.open(tmp_path / "absent.sqlite")
    with pytest.raises(StoreError, match="already"):
        EpisodeStore.create(store.path)
    foreign = tmp_path / "foreign.sqlite"
    sqlite3.connect(foreign).execute("CREATE TABLE t (x)").connection.close()
    with pytest.raises(StoreError, match=r"foreign.sqlite is not an episode store"):
        EpisodeStore.open(foreign)
    with pytest.raises(StoreError, match="cannot be read or written"):
        EpisodeStore.create(tmp_path / "no such folder" / "episodes.sqlite")


@pytest.mark.parametrize("keep", [0, 10, 100, 5000])
def test_a_cut_or_overwritten_file_is_a_store_error_that_names_it(store: EpisodeStore, keep: int) -> None:
    store.append_episodes([a_long_episode(number) for number in range(20)], step=0, kind="train")
    store.close()
    store.path.write_bytes(store.path.read_bytes()[:keep] + b"\xff" * 20000)
    with pytest.raises(StoreError, match=r"episodes\.sqlite") as caught, EpisodeStore.open(store.path) as reader:
        list(reader.stream())
    assert caught.value.exit_code == 7


def test_a_damaged_blob_names_file_and_episode(store: EpisodeStore) -> None:
    store.append_episodes([an_episode()], step=0, kind="train")
    with sqlite3.connect(store.path) as connection:
        connection.execute("UPDATE episodes SET arrays = x'00'")
    with pytest.raises(StoreError, match=r"episode 'math-0-1' in .*episodes\.sqlite: a stored blob is damaged"):
        store.episode("math-0-1")


@pytest.mark.parametrize(("value", "message"), [("2", "newer version of AgentDistill .schema 2; .* upgrade"), ("x", "damaged")])
def test_a_file_of_a_newer_version_says_so(store: EpisodeStore, value: str, message: str) -> None:
    store.close()
    with sqlite3.connect(store.path) as connection:
        connection.execute("UPDATE meta SET value = ?", [value])
    with pytest.raises(StoreError, match=message):
        EpisodeStore.open(store.path)


def test_a_second_writer_is_told_that_the_file_is_in_use(store: EpisodeStore) -> None:
    with EpisodeStore.open(store.path, readonly=False) as other:
        other._connection.execute("PRAGMA busy_timeout = 10")
        store._connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="being written by another process"):
            other.append_episodes([an_episode()], step=0, kind="train")


def test_an_id_that_is_not_unicode_is_refused(store: EpisodeStore) -> None:
    with pytest.raises(StoreError, match="not valid Unicode"):
        store.append_episodes([an_episode("\ud800")], step=0, kind="train")
    assert store.count() == 0


def test_nothing_in_the_store_package_can_run_code_from_a_file() -> None:
    package = ROOT / "agentdistill" / "store"
    for file in package.glob("*.py"):
        text = file.read_text("utf-8")
        for word in ("import pickle", "torch.load", "yaml.load", "eval(", "exec(", "import torch", "__import__", "allow_pickle"):
            assert word not in text, f"{file.name} has {word}"


@pytest.mark.skipif(os.getuid() != 0, reason="needs to become another user")
def test_a_finished_run_can_be_read_where_nobody_may_write(store: EpisodeStore, tmp_path: Path) -> None:
    store.append_episodes([an_episode()], step=0, kind="train")
    store.close()
    folder = tmp_path / "archive"
    folder.mkdir()
    archived = store.path.rename(folder / "episodes.sqlite")
    folder.chmod(0o555)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    tmp_path.chmod(0o755)
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        try:
            with EpisodeStore.open(archived) as reader:
                os._exit(reader.count())
        except BaseException:
            os._exit(100)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


# ---- death and speed -------------------------------------------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
from agentdistill.store import EpisodeStore
from tests.store.examples import a_long_episode
path = Path(sys.argv[1])
store = EpisodeStore.open(path, readonly=False) if path.exists() else EpisodeStore.create(path)
start = int(sys.argv[2])
for step in range(start, start + 100000):
    store.append_episodes([a_long_episode(step * 8 + index) for index in range(8)], step=step, kind="train")
    print(step, flush=True)
"""


@pytest.mark.ci
def test_kill_9_loses_no_acknowledged_episode_and_doubles_none(tmp_path: Path) -> None:
    path, start = tmp_path / "episodes.sqlite", 0
    for kill in range(5):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(start)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert writer.stdout is not None
        acknowledged = int(writer.stdout.readline())
        time.sleep(0.005 * kill)
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged = max([acknowledged, *map(int, writer.stdout.read().split("\n")[:-1])])
        writer.wait()
        with EpisodeStore.open(path, readonly=False) as survivor:
            ids = [head["id"] for head in survivor.heads()]
            assert len(ids) == len(set(ids))
            assert len(ids) % 8 == 0
            assert {f"train-{number:06d}" for number in range((acknowledged + 1) * 8)} <= set(ids)
            assert sum(1 for _ in survivor.stream()) == len(ids)
            assert survivor._connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        start = acknowledged  # the next writer plays the last acknowledged step again, and perhaps a stored one that was not acknowledged


def test_a_batch_of_128_nano_episodes_costs_well_under_a_training_step(store: EpisodeStore) -> None:
    began = SYSTEM_CLOCK.cpu()
    store.append_episodes([], step=0, kind="train")
    best = float("inf")
    for step in range(3):
        batch = [a_long_episode(step * 128 + index) for index in range(128)]
        began = SYSTEM_CLOCK.cpu()
        store.append_episodes(batch, step=step, kind="train")
        best = min(best, SYSTEM_CLOCK.cpu() - began)
    assert best < 0.2, f"{best:.3f} s of processor time (measured: 0.05 s)"
