"""A run is a function of its configuration and seed, stopped or not; and whatever fails costs only what it must."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from agentdistill.store import Run

pytestmark = pytest.mark.ci


def weights(run: Run, step: int) -> str:
    return hashlib.sha256((run.checkpoints / str(step) / "model.safetensors").read_bytes()).hexdigest()


def tensors(run: Run, step: int) -> dict[str, str]:
    """Hash of every file of weights and moments."""
    files = sorted((run.checkpoints / str(step)).glob("*.safetensors"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def metrics(run: Run) -> str:
    return (run.path / "metrics.jsonl").read_text()


def test_two_runs_with_one_seed_have_identical_metrics_and_another_seed_does_not(small):
    first, second, other = small.train("a", "steps=2"), small.train("b", "steps=2"), small.train("c", "steps=2", "seed=1")
    assert metrics(first) == metrics(second)
    assert weights(first, 2) == weights(second, 2)
    assert metrics(first) != metrics(other)


@pytest.mark.parametrize(
    "overrides", [("method=opd_sampled",), ("checkpoint_every=3",), ("method=gkd",), ("method=ppo", "learner.updates=2")]
)
def test_a_run_that_died_and_resumed_is_the_run_that_never_stopped(small, overrides):
    whole = small.train("whole", "steps=4", *overrides)
    small.train("broken", "steps=4", *overrides, stop_after=2)
    resumed = small.train("broken", "resume=true")
    assert metrics(resumed) == metrics(whole)
    assert tensors(resumed, 4) == tensors(whole, 4)
    ids = [[head["id"] for head in run.episodes.heads()] for run in (resumed, whole)]
    assert sorted(ids[0]) == sorted(ids[1])
    assert len(set(ids[0])) == len(ids[0])
    counted = [{key: value for key, value in (run.summary() or {}).items() if key not in ("wall_s", "cpu_s")} for run in (resumed, whole)]
    assert counted[0] == counted[1]


def test_more_steps_can_be_asked_of_a_finished_run(small):
    whole = small.train("whole", "steps=3")
    small.train("short", "steps=2")
    longer = small.train("short", "resume=true", "steps=3")
    assert metrics(longer) == metrics(whole)
    assert weights(longer, 3) == weights(whole, 3)


def test_the_summary_has_what_is_promised(small):
    run = small.train("a", "steps=1")
    summary = json.loads((run.path / "summary.json").read_text())
    promised = "env method seed success_before success_after success_sampled_before success_sampled_after"
    promised += " student_tokens teacher_tokens episodes steps wall_s cpu_s"
    assert set(promised.split()) <= set(summary)
    assert summary["episodes"] == 8
    assert summary["student_tokens"] > 0
    assert summary["teacher_tokens"] > summary["student_tokens"]
    page = (run.path / "report.html").read_text()
    assert "default-src 'none'" in page
    assert "<svg" in page
    assert "http" not in page.replace("http-equiv", "")


def test_a_checkpoint_is_a_model_that_transformers_loads(small):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = small.train("a", "steps=1")
    directory = run.checkpoints / "1"
    model = AutoModelForCausalLM.from_pretrained(directory)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    assert model.get_output_embeddings().weight.shape[0] == len(tokenizer)


@pytest.mark.parametrize("method", ["sft", "seqkd", "gkd", "opd", "opd_sampled", "grpo", "kdrl"])
def test_every_preset_trains_two_steps_and_moves_the_weights(small, method):
    batch = "rollout.batch=128" if method == "grpo" else "rollout.batch=16"  # the student rarely succeeds, and a flat group teaches nothing
    run = small.train(method, f"method={method}", "steps=2", "keep_checkpoints=3", batch)
    assert weights(run, 0) != weights(run, 2)
    rows = [json.loads(line) for line in metrics(run).splitlines()]
    assert any(row.get("loss/total") is not None for row in rows)


@pytest.mark.parametrize("roles", [("teacher",), ("student",), ("student", "teacher")])
def test_heads_that_are_padded_to_different_sizes_learn_and_teach_the_same(small, tmp_path, roles):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from agentdistill.resources import nano_dir

    overrides = []
    for role in roles:
        directory = tmp_path / "models" / role
        model = AutoModelForCausalLM.from_pretrained(nano_dir("math", role))
        model.resize_token_embeddings(1088 if role == "teacher" else 1056, mean_resizing=False)
        torch.nn.init.normal_(model.get_output_embeddings().weight.data[1024:], std=3.0)  # ids that would be sampled, were they not cut
        model.save_pretrained(directory)
        AutoTokenizer.from_pretrained(nano_dir("math", role)).save_pretrained(directory)
        overrides.append(f"{role}={directory}")
    plain, padded = small.train("plain", "steps=2"), small.train("padded", "steps=2", *overrides)
    losses = [[row.get("loss/total") for row in run.metrics() if row["kind"] == "train"] for run in (plain, padded)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    shares = [(run.summary() or {})["success_sampled_after"] for run in (plain, padded)]
    assert shares[0] == shares[1]


def test_lora_trains_through_peft(small):
    run = small.train("lora", "learner=lora", "steps=1")
    assert (run.checkpoints / "1" / "adapter.safetensors").is_file()


def test_several_updates_on_one_batch_use_the_trainers_own_old_logprobs(small):
    run = small.train("twice", "method=grpo", "learner.updates=2", "steps=1")
    assert (run.checkpoints / "1").is_dir()


def test_a_method_with_a_learned_value_trains_without_groups_and_keeps_its_value(small):
    run = small.train("ppo", "method=ppo", "rollout.batch=16", "steps=3")
    rows = [row for row in run.metrics() if row["kind"] == "train"]
    assert all(row["loss/value/outcome"] >= 0 and row["credit/outcome/outcome/mean_abs"] > 0 for row in rows)
    assert (run.checkpoints / "3" / "value.safetensors").is_file()
    assert (run.summary() or {})["steps"] == 3


def test_an_environment_that_raises_costs_its_episode_and_not_the_run(small, monkeypatch):
    from agentdistill_envs.math import MathEnv

    plain = MathEnv.step

    def fragile(self, action):
        if self.task.id.endswith("3"):
            raise RuntimeError("the roof fell in")
        return plain(self, action)

    monkeypatch.setattr(MathEnv, "step", fragile)
    run = small.train("fragile", "steps=2", "rollout.batch=32")
    failed = run.episodes.heads(status="env_error", kind="train")
    summary = run.summary() or {}
    assert failed
    assert summary["failed_episodes"] == len(failed)
    episode = run.episodes.episode(failed[0]["id"])
    assert episode.failure is not None
    assert episode.failure.type == "RuntimeError"
    assert len(episode.failure.attempts) == 1
    assert not run.episodes.annotations(episode.id)
    assert summary["success_after"] is not None


def test_a_second_trainer_on_one_run_is_refused(small):
    from agentdistill.config import compose_train
    from agentdistill.errors import AgentDistillError
    from agentdistill.train.progress import PlainProgress
    from agentdistill.train.session import open_session

    small.train("a", "steps=1")
    composed = compose_train(["run=a", f"runs_dir={small.runs}", "resume=true"], resume_base=True)
    with (
        open_session(composed, PlainProgress()),
        pytest.raises(AgentDistillError, match="a"),
        open_session(composed, PlainProgress()),
    ):
        pass


def test_an_existing_run_is_not_overwritten(small):
    from agentdistill.errors import UsageError

    small.train("a", "steps=1")
    with pytest.raises(UsageError, match="resume=true"):
        small.train("a", "steps=1")


def test_eval_of_a_run_plays_its_newest_checkpoint(small, capsys):
    from agentdistill.cli.main import main

    small.train("a", "steps=1")
    assert main(["eval", "run=a", f"runs_dir={small.runs}", "tasks=8", "samples=2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["step"] == 1
    assert report["tasks"] == 8
    assert set(report["pass_at"]) == {"1", "2"}


def test_episodes_can_be_listed_and_shown(small, capsys):
    from agentdistill.cli.main import main

    small.train("a", "steps=1")
    where = ["--run", "a", "--runs-dir", str(small.runs)]
    assert main(["episode", "list", "kind=train", *where]) == 0
    assert "train-0-0-0" in capsys.readouterr().out
    assert main(["episode", "show", "train-0-0-0", *where]) == 0
    assert "student" in capsys.readouterr().out


def test_the_loop_reads_as_nine_beats_in_at_most_150_lines():
    import agentdistill.train.loop as loop

    text = Path(loop.__file__).read_text()
    assert len(text.splitlines()) <= 150
    beats = ("take", "play", "review", "score", "credit", "pack", "loss", "step", "publish")
    places = [text.index(f'record.beat("{beat}")') for beat in beats]
    assert places == sorted(places)


def test_threads_for_environments_change_no_bit(small):
    plain, threaded = small.train("plain", "steps=2"), small.train("threaded", "steps=2", "rollout.env_workers=3")
    assert metrics(threaded) == metrics(plain)
    assert weights(threaded, 2) == weights(plain, 2)


def test_a_step_in_which_every_episode_failed_says_so(small, monkeypatch):
    import io

    from agentdistill_envs.math import MathEnv

    from agentdistill.config import compose_train
    from agentdistill.train.loop import train
    from agentdistill.train.progress import PlainProgress
    from agentdistill.train.session import open_session

    def broken(self, action):
        raise RuntimeError("the roof fell in")

    monkeypatch.setattr(MathEnv, "step", broken)
    said = io.StringIO()
    overrides = [f"runs_dir={small.runs}", "run=a", "steps=1", "rollout.batch=8", "eval.tasks=2", "eval.progress_tasks=2"]
    with open_session(compose_train(overrides), PlainProgress(said)) as (parts, recorder):
        train(parts, recorder)
    assert "(8 episodes failed; no episode could train (8 RuntimeError): step skipped)" in said.getvalue()
