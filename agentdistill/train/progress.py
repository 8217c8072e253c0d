"""What the user sees while a run trains: a live panel on a terminal, plain lines in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO

from agentdistill.config.schema import TrainConfig
from agentdistill.store.transcript import transcript
from agentdistill.types import Episode

if TYPE_CHECKING:
    from agentdistill.train.figures import Summary

BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, kw_only=True)
class StepView:
    """The figures of one step that are shown. ``None``: the method has no such figure."""

    step: int
    steps: int
    success: float | None
    """Share of this step's own episodes that succeeded (temperature 1)."""
    reverse_kl: float | None
    """Nats per token, student against teacher."""
    loss: float | None
    tokens_per_second: float
    seconds_left: float
    skipped: bool


class Progress(Protocol):
    """Listens to a run."""

    def start(self, config: TrainConfig, *, resumed_at: int | None) -> None: ...
    def note(self, text: str) -> None: ...
    def step(self, view: StepView) -> None: ...
    def evaluated(self, step: int, success: float) -> None: ...
    def finished(self, summary: Summary, before: Episode | None, after: Episode | None, run: Path, page: Path) -> None: ...
    def close(self) -> None: ...


def sparkline(values: Sequence[float]) -> str:
    """Values in 0..1 as a small curve, at most the last 40 of them."""
    return "".join(BARS[min(int(value * len(BARS)), len(BARS) - 1)] for value in values[-40:])


def figure(value: float | None, form: str = ".3f") -> str:
    return "–" if value is None else format(value, form)


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def step_line(view: StepView) -> str:
    """One step as plain text."""
    parts = [f"step {view.step}/{view.steps}", f"success {figure(view.success, '.2f')}"]
    if view.reverse_kl is not None:
        parts.append(f"reverse KL {view.reverse_kl:.4f}")
    parts += [f"loss {figure(view.loss)}", f"{view.tokens_per_second:,.0f} tokens/s"]
    parts.append(f"{duration(view.seconds_left)} left")
    return "  ".join(parts) + ("  (non-finite: step skipped)" if view.skipped else "")


class PlainProgress:
    """Plain lines."""

    def __init__(self, stream: TextIO | None = None, *, every: int = 1) -> None:
        self.stream = stream or sys.stdout
        self.every = every

    def _write(self, text: str) -> None:
        self.stream.write(text + "\n")
        self.stream.flush()

    def start(self, config: TrainConfig, *, resumed_at: int | None) -> None:
        what = (
            f"{config.method.name} on {config.env.name}: student {config.student.path}, teacher {config.teacher.name}, seed {config.seed}"
        )
        self._write(what if resumed_at is None else f"{what}; resumed after step {resumed_at}")

    def note(self, text: str) -> None:
        self._write(text)

    def step(self, view: StepView) -> None:
        if view.step % self.every == 0 or view.step in (1, view.steps) or view.skipped:
            self._write(step_line(view))

    def evaluated(self, step: int, success: float) -> None:
        self._write(f"held-out success after step {step}: {success:.2f} (greedy)")

    def finished(self, summary: Summary, before: Episode | None, after: Episode | None, run: Path, page: Path) -> None:
        self._write(closing(summary, before, after, run, page))

    def close(self) -> None:
        return


def closing(summary: Summary, before: Episode | None, after: Episode | None, run: Path, page: Path) -> str:
    """The last words of a run: what changed, shown on one task, and where everything is."""
    lines = []
    for title, episode in (("Before", before), ("After", after)):
        if episode is not None:
            lines += ["", f"── {title} " + "─" * 40, transcript(episode)]
    lines += [
        "",
        f"Success on {summary.eval_tasks} held-out tasks ({summary.eval_split})",
        f"  greedy   {figure(summary.success_before, '.2f')} → {figure(summary.success_after, '.2f')}",
        f"  sampled  {figure(summary.success_sampled_before, '.2f')} → {figure(summary.success_sampled_after, '.2f')}",
        f"{summary.steps} steps, {summary.episodes:,} episodes, {summary.student_tokens:,} student tokens, "
        f"{summary.teacher_tokens:,} teacher tokens, {duration(summary.wall_s)} ({duration(summary.cpu_s)} of processor time)",
        f"Run: {run}    Report: {page}",
    ]
    return "\n".join(lines)


class RichProgress(PlainProgress):
    """A live panel: a bar with the time left, the latest figures and the curve of held-out success."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self.console = Console()
        self.curve: list[float] = []
        self.latest: StepView | None = None
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=self.console,
        )
        self.task = self.bar.add_task("train", total=1, figures="")

    def _write(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False)

    def start(self, config: TrainConfig, *, resumed_at: int | None) -> None:
        super().start(config, resumed_at=resumed_at)
        self.bar.update(self.task, total=config.steps, completed=resumed_at or 0)
        self.bar.start()

    def step(self, view: StepView) -> None:
        self.latest = view
        self._refresh()
        if view.skipped:
            self._write(step_line(view))

    def evaluated(self, step: int, success: float) -> None:
        self.curve.append(success)
        self._refresh()
        super().evaluated(step, success)

    def _refresh(self) -> None:
        if (view := self.latest) is not None:
            figures = f"success {figure(view.success, '.2f')} {sparkline(self.curve)}  reverse KL {figure(view.reverse_kl)}"
            self.bar.update(self.task, completed=view.step, figures=f"{figures}  {view.tokens_per_second:,.0f} tok/s")

    def finished(self, summary: Summary, before: Episode | None, after: Episode | None, run: Path, page: Path) -> None:
        self.close()
        super().finished(summary, before, after, run, page)

    def close(self) -> None:
        self.bar.stop()
