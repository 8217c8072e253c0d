"""A trained student in the form that everything else reads: safetensors, configuration, tokenizer with chat template, and a model card.

    run ── newest checkpoint, or step N ──┬─ student   the whole model of a run that trained in full
                                          ├─ merged    base and adapters made one
                                          └─ adapter   a PEFT directory beside its base
    path of a model (nano, directory, hub id, .gguf) ──── student

What is exported is written aside and renamed when it is whole, so a folder of that name is a finished one.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from agentdistill.config import Composed, compose_train
from agentdistill.config.schema import EvaluateConfig, TrainConfig
from agentdistill.errors import AgentDistillError, UsageError, boundary
from agentdistill.learner import Learner
from agentdistill.policy.gguf import SUFFIX
from agentdistill.policy.loading import load_model, load_tokenizer, quiet, resolve
from agentdistill.render import Renderer
from agentdistill.store import Run
from agentdistill.train.card import Card, Measured, Trained
from agentdistill.train.command import command_of
from agentdistill.train.figures import Counters
from agentdistill.train.session import env_class_of, method_of, tasks_of
from agentdistill.train.state import load_checkpoint

What = Literal["student", "adapter", "merged"]
WHATS: tuple[What, ...] = ("student", "adapter", "merged")


def export_model(config: EvaluateConfig, to: Path, *, force: bool = False) -> Path:
    """Bring a model into Hugging Face form without training it; the folder.

    Raises:
        ConfigError: there is no such model.
        UsageError: the folder is taken, or cannot be written.
    """
    require_free(to, force=force)
    env, path = config.env.entry_point, config.student.path
    renderer = Renderer(load_tokenizer(path, env=env, role="student"))
    model = load_model(path, env=env, role="student", dtype=config.student.dtype, device="cpu")
    with _writing(to, force=force) as folder:
        _save_model(model, renderer, folder)
        card = Card(student=path, what="student", versions=_versions(), notes=(_weights_note(model),))
        (folder / "README.md").write_text(card.text(), "utf-8")
    return to


def export_run(run: Run, to: Path | None, *, what: What | None = None, step: int | None = None, force: bool = False) -> Path:
    """Export a checkpoint of a run; the folder.

    Args:
        to: ``None``: ``exports/<step>-<what>`` in the run's folder.
        what: ``None``: the whole model, adapters merged in.
        step: training steps of the checkpoint. ``None``: the newest one.

    Raises:
        UsageError: the run has no such checkpoint, ``what`` does not go with how it was trained, or the folder is taken.
        ConfigError: the model that the run began with is not there any more.
        StoreError: the checkpoint is damaged.
    """
    composed = compose_train([], base=run.path / "config.yaml")
    config = composed.config
    chosen = _what(run, config, what)
    if to is not None:
        require_free(to, force=force)
    path, env = config.student.path, config.env.entry_point
    renderer = Renderer(load_tokenizer(path, env=env, role="student"))
    model = load_model(path, env=env, role="student", dtype=config.student.dtype, device="cpu")
    learner = Learner(model, config.learner, device="cpu", vocab_size=renderer.vocab_size)
    restored = load_checkpoint(run, learner, step=step)
    if restored is None:
        raise UsageError(
            f"run {run.name!r} has no checkpoint yet; wait for it, or go on with it: agentdistill train run={run.name} resume=true"
        )
    target = to or run.path / "exports" / f"{restored.step}-{chosen}"
    require_free(target, force=force)
    with _writing(target, force=force) as folder:
        if chosen == "adapter":
            base = resolve(path, env=env, role="student")
            learner.save_adapters(folder, base=base)
            _save_beside(learner.model, renderer, folder)
            notes = [f"The base is `{base}`; where that is elsewhere, change `base_model_name_or_path` in adapter_config.json."]
            if base.endswith(SUFFIX):
                notes.append("PEFT does not read GGUF: export the base by `agentdistill export student.path=…` and name that folder there.")
        else:
            whole = learner.merged() if chosen == "merged" else learner.model
            _save_model(whole, renderer, folder)
            notes = [_weights_note(whole)]
        shutil.copyfile(run.path / "config.yaml", folder / "agentdistill.yaml")
        trained = _trained(run, composed, Counters(**restored.counters))
        card = Card(student=path, what=chosen, versions=_versions(), trained=trained, notes=tuple(notes))
        (folder / "README.md").write_text(card.text(), "utf-8")
    return target


def require_free(to: Path, *, force: bool) -> None:
    """
    Raises:
        UsageError: something is there that may not be replaced: without ``force`` anything, with it whatever is no exported model.
    """
    if not (to.exists() or to.is_symlink()) or (_is_folder(to) and not any(to.iterdir())):
        return
    ours = _is_folder(to) and any((to / name).is_file() for name in ("config.json", "adapter_config.json"))
    if not force:
        raise UsageError(
            f"{str(to)!r} exists already; name another folder with --to DIR" + (", or replace it with --force" if ours else "")
        )
    if not ours:
        raise UsageError(f"{str(to)!r} holds no exported model, so --force does not replace it; name another folder with --to DIR")


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _what(run: Run, config: TrainConfig, what: What | None) -> What:
    lora = config.learner.lora is not None
    if what is None:
        return "merged" if lora else "student"
    if lora and what == "student":
        raise UsageError(
            f"run {run.name!r} trained adapters on a frozen base; export them with --what adapter, or the whole with --what merged"
        )
    if not lora and what != "student":
        raise UsageError(f"run {run.name!r} trained every weight and has no adapters; export it with --what student")
    return what


@contextmanager
def _writing(to: Path, *, force: bool) -> Iterator[Path]:
    """A folder aside that takes the place of ``to`` when the block is done, and is gone when it fails."""
    with boundary(UsageError, f"cannot write to {str(to)!r}; free some space, or name another folder with --to DIR"):
        to.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{to.name}.", dir=to.parent))
        try:
            folder = aside / "new"
            folder.mkdir()
            yield folder
            for path in folder.rglob("*"):
                path.chmod(0o755 if path.is_dir() else 0o644)  # safetensors writes for its owner alone
            require_free(to, force=force)
            if to.exists():
                to.rename(aside / "old")
            folder.rename(to)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _save_model(model: Any, renderer: Renderer, folder: Path) -> None:
    _stop_where_it_stops(model, renderer)
    with quiet():
        model.save_pretrained(folder)
    renderer.tokenizer.save_pretrained(folder)


def _save_beside(model: Any, renderer: Renderer, folder: Path) -> None:
    """What goes with adapters."""
    _stop_where_it_stops(model, renderer)
    model.generation_config.save_pretrained(folder)
    renderer.tokenizer.save_pretrained(folder)


def _stop_where_it_stops(model: Any, renderer: Renderer) -> None:
    """``generate`` ends a turn at the tokens at which an episode's turn ended."""
    model.generation_config.eos_token_id = sorted(renderer.stop_ids)


def _weights_note(model: Any) -> str:
    count = sum(parameter.numel() for parameter in model.parameters())
    return f"{count:,} parameters in {str(next(model.parameters()).dtype).removeprefix('torch.')}."


def _trained(run: Run, composed: Composed, counters: Counters) -> Trained:
    config = composed.config
    return Trained(
        run=run.name,
        config=config,
        teacher=str(getattr(config.teacher, "path", config.teacher.name)) if method_of(config).needs.teacher else None,
        step=counters.step,
        figures={
            "episodes": f"{counters.episodes:,}",
            "of them not trainable": f"{counters.failed_episodes:,}",
            "student tokens": f"{counters.student_tokens:,}",
            "teacher tokens": f"{counters.teacher_tokens:,}",
            "learning rate": f"{config.learner.lr:g}",
            "adapters": "none" if config.learner.lora is None else f"rank {config.learner.lora.rank}, alpha {config.learner.lora.alpha:g}",
            "wall seconds": f"{counters.wall_s:.0f}",
            "processor seconds": f"{counters.cpu_s:.0f}",
        },
        tasks=_tasks(config),
        measured=_measured(run, config, counters),
        command=command_of(composed) or "# no command gives this configuration any more; agentdistill.yaml beside this page has it in full",
    )


def _tasks(config: TrainConfig) -> dict[str, str]:
    found = {}
    for split in dict.fromkeys(("train", config.eval.split, config.eval.progress_split)):
        try:
            tasks = tasks_of(env_class_of(config.env), config.env, split)
            found[split] = f"{len(tasks)}, hash {tasks.hash}"
        except AgentDistillError:
            found[split] = "not to be had where this was exported"
    return found


def _measured(run: Run, config: TrainConfig, counters: Counters) -> list[Measured]:
    """Before and, if this checkpoint is the run's last, after; and what the curve says of this moment."""
    summary = run.summary()
    ended = summary is not None and summary.get("steps") == counters.step
    tasks = int(summary["eval_tasks"]) if summary is not None else config.eval.tasks
    found = [
        Measured(
            when="before training",
            split=config.eval.split,
            tasks=tasks,
            greedy=counters.success_before,
            sampled=counters.success_sampled_before,
        )
    ]
    if summary is not None and ended:
        after = summary["success_after"], summary["success_sampled_after"]
        found.append(Measured(when=f"after {counters.step} steps", split=config.eval.split, tasks=tasks, greedy=after[0], sampled=after[1]))
    for row in run.metrics():
        if row.get("kind") == "eval" and row["step"] == counters.step and "eval/success/greedy" in row:
            split, greedy = config.eval.progress_split, row["eval/success/greedy"]
            found.append(
                Measured(when=f"after {counters.step} steps", split=split, tasks=config.eval.progress_tasks, greedy=greedy, sampled=None)
            )
    return found


def _versions() -> dict[str, str]:
    found = {}
    for package in ("agentdistill", "torch", "transformers", "peft"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
