"""What is exported is what was trained, loads with plain transformers and peft, and replaces nothing by accident."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer

from agentdistill.cli.main import main
from agentdistill.config import compose_train
from agentdistill.learner import Learner
from agentdistill.policy.loading import load_model
from agentdistill.store import Run
from agentdistill.train import export as module
from agentdistill.train.card import Card, Trained
from agentdistill.train.command import command_of
from agentdistill.train.state import load_checkpoint

IDS = torch.tensor([[5, 17, 300, 42, 8, 900, 33, 61]])
WORDS = ("steps=2", "eval.every=1", "rollout.batch=4", "eval.tasks=4", "eval.progress_tasks=4", "learner.lr=3e-3", "learner.warmup_steps=0")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, small_in: Any) -> Path:
    """``full`` and ``lora``, two steps each."""
    small = small_in(tmp_path_factory.mktemp("runs"))
    small.train("full", *WORDS, "env.tries=1")
    small.train("lora", *WORDS, "learner=lora", "learner.lora.rank=4", "teacher=self")
    return small.runs


def export(*words: str) -> int:
    return main(["export", *words])


def trained(runs: Path, name: str, step: int | None = None) -> torch.Tensor:
    """Logits of the run's student, as its learner computes them."""
    with Run.open(runs, name, readonly=True) as run:
        config = compose_train([], base=run.path / "config.yaml").config
        learner = Learner(load_model("nano", env="math", role="student", device="cpu"), config.learner, device="cpu")
        assert load_checkpoint(run, learner, step=step) is not None
        return logits(learner.model)


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model.eval()(input_ids=IDS).logits


def card(folder: Path) -> tuple[dict[str, Any], str]:
    _, front, text = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), text


@pytest.mark.ci
def test_a_whole_model_gives_the_very_same_logits(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to = tmp_path / "deep" / "er"
    assert export("run=full", f"runs_dir={runs}", "--to", str(to)) == 0
    assert capsys.readouterr().out == f"exported to {to}\n"
    model = AutoModelForCausalLM.from_pretrained(to)
    assert torch.equal(logits(model), trained(runs, "full"))
    assert not torch.equal(logits(model), logits(load_model("nano", env="math", role="student")))
    tokenizer = AutoTokenizer.from_pretrained(to)
    said = tokenizer.apply_chat_template([{"role": "user", "content": "2+2"}], tokenize=False, add_generation_prompt=True)
    assert "2+2" in said
    assert tokenizer.eos_token_id in model.generation_config.eos_token_id
    names = {path.name for path in to.iterdir()}
    assert {"README.md", "agentdistill.yaml", "config.json", "generation_config.json", "model.safetensors", "chat_template.jinja"} <= names
    assert [path.name for path in to.parent.iterdir()] == ["er"]
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in to.iterdir())


@pytest.mark.ci
def test_evaluating_the_export_gives_the_figures_of_evaluating_the_run(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = []
    for name, what in (("full", "student"), ("lora", "merged")):
        to = tmp_path / name
        assert export(f"run={name}", f"runs_dir={runs}", "--what", what, "--to", str(to)) == 0
        capsys.readouterr()
        for words in ([f"run={name}", f"runs_dir={runs}"], [f"student.path={to}", *(["env.tries=1"] if name == "full" else [])]):
            assert main(["eval", *words, "tasks=8", "samples=2", "--json"]) == 0
            found = json.loads(capsys.readouterr().out)
            figures.append({key: found[key] for key in ("tasks_hash", "greedy", "sampled", "pass_at", "failed_episodes")})
    assert figures[0] == figures[1]
    assert figures[2] == figures[3]


@pytest.mark.ci
def test_adapters_go_with_their_base_and_merged_ones_without(runs: Path, tmp_path: Path) -> None:
    for what in ("adapter", "merged"):
        assert export("run=lora", f"runs_dir={runs}", "--what", what, "--to", str(tmp_path / what)) == 0
    wanted = trained(runs, "lora")
    adapted = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter")
    torch.testing.assert_close(logits(adapted), wanted, atol=1e-5, rtol=0)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["base_model_name_or_path"]) == (4, module.resolve("nano", env="math", role="student"))
    assert not (tmp_path / "adapter" / "model.safetensors").exists()
    assert AutoTokenizer.from_pretrained(tmp_path / "adapter").chat_template
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(merged), wanted, atol=1e-5, rtol=0)
    assert not torch.allclose(wanted, logits(load_model("nano", env="math", role="student")), atol=1e-4)
    assert not any("lora" in name for name in merged.state_dict())
    for what, library, loads in (("adapter", "peft", "AutoPeftModelForCausalLM"), ("merged", "transformers", "AutoModelForCausalLM")):
        front, text = card(tmp_path / what)
        assert front["library_name"] == library
        assert f"import {loads}" in text


@pytest.mark.ci
def test_without_a_folder_it_lies_with_its_run_whole_and_named_by_its_step(runs: Path) -> None:
    assert export("run=lora", f"runs_dir={runs}") == 0
    assert export("run=full", f"runs_dir={runs}", "--step", "1") == 0
    assert (runs / "lora" / "exports" / "2-merged" / "config.json").is_file()
    earlier = AutoModelForCausalLM.from_pretrained(runs / "full" / "exports" / "1-student")
    assert torch.equal(logits(earlier), trained(runs, "full", step=1))
    assert not torch.equal(logits(earlier), trained(runs, "full"))
    _, text = card(runs / "full" / "exports" / "1-student")
    assert "| steps | 1 |" in text
    assert "after 1 steps | val | 4" in text
    assert "after 2 steps" not in text
    assert "after 1 steps | test" not in text


@pytest.mark.ci
def test_the_card_says_what_was_done_and_how_to_do_it_again(runs: Path, tmp_path: Path) -> None:
    assert export("run=full", f"runs_dir={runs}", "--to", str(tmp_path / "a")) == 0
    front, text = card(tmp_path / "a")
    assert front["pipeline_tag"] == "text-generation"
    assert front["tags"] == ["agentdistill", "on-policy-distillation", "method:opd", "env:math"]
    sections = re.findall(r"^## (.*)$", text, re.MULTILINE)
    told = ["Student", "Teacher", "Method", "Environment", "Training", "Evaluation", "Loading", "Command", "Versions", "Licence"]
    assert sections == told
    assert "## Teacher\n\n`nano`\n" in text
    assert "those of its teacher (`nano`)" in text
    run = Run.open(runs, "full", readonly=True)
    summary = run.summary() or {}
    for moment, when in (("before", "before training"), ("after", "after 2 steps")):
        greedy, sampled = summary[f"success_{moment}"], summary[f"success_sampled_{moment}"]
        assert f"| {when} | test | 4 | {greedy:.3f} | {sampled:.3f} |" in text
    assert f"| student tokens | {summary['student_tokens']:,} |" in text
    assert "reverse_kl(p, q)" in text
    assert "arXiv 2306.13649" in text
    assert re.search(r"\| train \| 4096, hash [0-9a-f]{16} \|", text)
    command = shlex.split(re.findall(r"```sh\n(.*)\n```", text)[0])
    assert command[:2] == ["agentdistill", "train"]
    saved = compose_train([], base=run.path / "config.yaml")
    assert compose_train(command[2:]).resolved == saved.resolved
    assert (tmp_path / "a" / "agentdistill.yaml").read_text() == run.config


@pytest.mark.parametrize(
    "words",
    [
        ["method=kdrl", "method.terms.outcome=null", "method.terms.teacher.weight={start: 0.5, end: 0.25, steps: 7}", "run=1e3"],
        ["method=grpo", "method.group_size=4", "rollout=long", "student=org/name", "teacher=other/name", "env.calls=[3,4]"],
        ["method=gkd", "learner=lora", "learner.betas=[0.8,0.9]", "teacher=self", "teacher.view=hint", "learner.lr=1e-4"],
    ],
)
def test_a_command_is_worked_out_from_any_configuration(words: list[str]) -> None:
    composed = compose_train(words)
    command = command_of(composed)
    assert command is not None
    assert compose_train(shlex.split(command)[2:]).resolved == composed.resolved


def test_a_configuration_whose_option_is_gone_has_no_command(tmp_path: Path) -> None:
    option = tmp_path / "mine.yaml"
    option.write_text("terms: {a: {kind: supervised, tokens: student}}\n")
    assert command_of(compose_train([f"method={option}"])) is None


@pytest.mark.ci
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run=none"], r"none"),
        (["run=full", "--step", "7"], r"run 'full' has no checkpoint of step 7; it keeps those of steps 1, 2"),
        (["run=full", "--what", "adapter"], r"trained every weight and has no adapters; export it with --what student"),
        (["run=full", "--what", "merged"], r"trained every weight"),
        (["run=lora", "--what", "student"], r"trained adapters on a frozen base; export them with --what adapter"),
        (["run=full", "student.path=nano"], r"run=full is exported with its own student; leave out either run= or student.path="),
        (["run=full", "tasks=3"], r"no key of an export 'tasks'; available: env, run, runs_dir, student"),
        (["run=full", "tasks=3", "--to"], r"expected one argument"),
        ([], r"what is to be exported\? name a run with run=NAME, or a model with student.path=PATH"),
        (["student.path=nano"], r"where is 'nano' to be exported\? add --to DIR"),
        (["student.path=nano", "--to", "x", "--step", "3"], r"--step is about a run's checkpoint"),
        (["student.path=nano", "--to", "x", "--what", "merged"], r"--what is about a run's checkpoint"),
        (["student.path=/no/such/model", "--to", "x"], r"student '/no/such/model' is not a directory"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_a_sentence(
    words: list[str], told: str, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert export(f"runs_dir={runs}", *words) == 2
    assert re.search(told, capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_a_checkpoint_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from agentdistill.config import save_config

    Run.create(tmp_path, "young").close()
    save_config(tmp_path / "young" / "config.yaml", compose_train(["run=young"]))
    assert export("run=young", f"runs_dir={tmp_path}") == 2
    assert "run 'young' has no checkpoint yet; wait for it" in capsys.readouterr().err
    assert export("run=young", f"runs_dir={tmp_path}", "--step", "1") == 2
    assert "no checkpoint of step 1; it has none at all" in capsys.readouterr().err


def test_nothing_is_replaced_without_force_and_nothing_but_models_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("student.path=nano", "env=math", "--to", str(tmp_path / "a"))
    (tmp_path / "a").mkdir()
    assert export(*words) == 0  # an empty folder holds nothing to lose
    (tmp_path / "a" / "mine.txt").write_text("mine")
    assert export(*words) == 2
    assert "exists already; name another folder with --to DIR, or replace it with --force" in capsys.readouterr().err
    assert (tmp_path / "a" / "mine.txt").is_file()
    assert export(*words, "--force") == 0
    assert not (tmp_path / "a" / "mine.txt").exists()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letters").write_text("dear")
    for target in ("home", "home/letters"):
        for force in ([], ["--force"]):
            assert export("student.path=nano", "--to", str(tmp_path / target), *force) == 2
    assert "holds no exported model, so --force does not replace it" in capsys.readouterr().err
    assert (tmp_path / "home" / "letters").read_text() == "dear"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "home"]


def test_a_model_is_exported_without_a_run(tmp_path: Path) -> None:
    assert export("student=nano", "env=math", "student.dtype=bfloat16", "--to", str(tmp_path / "a")) == 0
    again = load_model(str(tmp_path / "a"), env="math", role="student", dtype="bfloat16")
    assert torch.equal(logits(again), logits(load_model("nano", env="math", role="student", dtype="bfloat16")))
    front, text = card(tmp_path / "a")
    assert "216,512 parameters in bfloat16" in text
    assert "## Method" not in text
    assert "base_model" not in front


def test_an_export_that_fails_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "a"
    assert export("student.path=nano", "--to", str(to)) == 0
    before = {path.name: path.read_bytes() for path in to.iterdir()}

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("transformers.PreTrainedTokenizerFast.save_pretrained", full)
    assert export("student.path=nano", "--to", str(to), "--force") == 2
    assert "No space left on device" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in to.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.ci
def test_tasks_that_are_not_here_are_said_to_be_missing(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from agentdistill.errors import TaskError

    def gone(*_: Any) -> None:
        raise TaskError("gone")

    monkeypatch.setattr(module, "tasks_of", gone)
    assert export("run=full", f"runs_dir={runs}", "--to", str(tmp_path / "a")) == 0
    assert "| train | not to be had where this was exported |" in card(tmp_path / "a")[1]


def test_a_card_names_what_each_term_is_and_whom_the_method_hears() -> None:
    def page(*words: str, teacher: str | None) -> str:
        config = compose_train(list(words)).config
        trained = Trained(run="a", config=config, teacher=teacher, step=1, figures={}, tasks={}, measured=(), command="x")
        return Card(student="org/name", what="student", versions={}, trained=trained).text()

    grpo = page("method=grpo", teacher=None)
    assert "| outcome | 1 | −min(ρ A, clip(ρ, 1 − 0.2, 1 + 0.2) A)  with A = Z [(R − mean(R)) / std(R)] | sequence |" in grpo
    assert "u − 1 − ln u, u = ref/q" in grpo
    assert "None: the method hears none." in grpo
    assert 'base_model: "org/name"' in grpo
    assert "Not measured." in grpo
    assert "distillation, those" not in grpo
    kdrl = page("method=kdrl", teacher="nano")
    assert "| teacher | 0.005 → 0.001 over 200 steps | ½ (ln q − ln p)² | token |" in kdrl
    jsd = page("teacher=self", "teacher.view=hint", "method.terms.teacher.divergence=jsd", "method.terms.teacher.beta=0.3", teacher="self")
    assert "jsd[beta=0.3](p, q)  [β Σ p ln(p/M)" in jsd
    assert "The student itself as it began, told the view `hint`." in jsd
    assert "distillation, those" not in jsd
    assert "−ln q(y)" in page("method=sft", teacher=None)
    assert "−ρ A  with A = (ln p − ln q)" in page("method=opd_sampled", teacher="nano")


@pytest.mark.ci
def test_adapters_of_a_gguf_base_say_what_peft_needs_and_versions_that_are_not_there_are_left_out(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = module.version

    def version(package: str) -> str:
        if package == "peft":
            raise module.PackageNotFoundError(package)
        return there(package)

    monkeypatch.setattr(module, "version", version)
    monkeypatch.setattr(module, "resolve", lambda *_, **__: "/models/base.gguf")
    assert export("run=lora", f"runs_dir={runs}", "--what", "adapter", "--to", str(tmp_path / "a")) == 0
    _, text = card(tmp_path / "a")
    assert "PEFT does not read GGUF: export the base by `agentdistill export student.path=" in text
    assert "| transformers |" in text
    assert "| peft |" not in text
