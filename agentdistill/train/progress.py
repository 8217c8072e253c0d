"""What the user sees while a run trains: a live panel on a terminal that can redraw lines, plain lines anywhere else."""

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
    from rich.console import Console

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
    """The weights did not move."""
    skipped_because: str = ""
    """Why, where it was skipped. Empty: loss or gradient was not finite."""
    failed: int = 0
    """Of this step's episodes, those that an environment or a sandbox spoilt."""

    @property
    def trouble(self) -> str:
        """What went wrong, in words. Empty: nothing."""
        spoilt = f"{self.failed} episode{'' if self.failed == 1 else 's'} failed" if self.failed else ""
        skipped = f"{self.skipped_because or 'non-finite'}: step skipped" if self.skipped else ""
        return "; ".join(part for part in (spoilt, skipped) if part)


class Progress(Protocol):
    """Listens to a run."""

    def start(self, config: TrainConfig, *, resumed_at: int | None) -> None: ...
    def note(self, text: str) -> None: ...
    def step(self, view: StepView) -> None: ...
    def evaluated(self, step: int, success: float) -> None: ...
    def finished(self, summary: Summary, before: Episode | None, after: Episode | None, run: Path, page: Path) -> None: ...
    def close(self) -> None: ...


def progress_for(stream: TextIO) -> Progress:
    """The live panel where ``stream`` is a terminal that can redraw lines, plain lines anywhere else (``TERM=dumb`` included)."""
    if not stream.isatty():
        return PlainProgress(stream)
    from rich.console import Console

    console = Console(file=stream)
    return RichProgress(console) if console.is_terminal and not console.is_dumb_terminal else PlainProgress(stream)


def sparkline(values: Sequence[float], longest: int = 40) -> str:
    """Values in 0..1 as a small curve, at most the last ``longest`` of them."""
    return "".join(BARS[min(int(value * len(BARS)), len(BARS) - 1)] for value in values[-longest:]) if longest > 0 else ""


def figure(value: float | None, form: str = ".3f") -> str:
    return "–" if value is None else format(value, form)


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def stopwatch(seconds: float) -> str:
    """``duration`` in as few characters as it takes."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def panel(view: StepView, curve: Sequence[float], width: int) -> tuple[int, str]:
    """The live line in ``width`` columns: how many of them the bar takes (0: none), and the text.

    What fits is kept in this order: the step, the time left, success, speed, trouble, divergence, the curve, the bar.
    """
    pieces = {
        "step": f"{view.step}/{view.steps}",
        "success": f"success {figure(view.success, '.2f')}",
        "curve": "",
        "divergence": "" if view.reverse_kl is None else f"reverse KL {view.reverse_kl:.3f}",
        "speed": f"{view.tokens_per_second:,.0f} tok/s",
        "left": f"{stopwatch(view.seconds_left)} left",
        "trouble": view.trouble,
    }
    gap = 2 if width >= 80 else 1
    free, kept = width, set()
    for name in ("step", "left", "success", "speed", "trouble", "divergence"):
        needed = len(pieces[name]) + gap
        if pieces[name] and needed <= free + gap:
            free -= needed
            kept.add(name)
    pieces["curve"] = sparkline(curve, min(40, free))
    if len(pieces["curve"]) >= min(4, len(curve)) > 0:
        free -= len(pieces["curve"]) + gap
        kept.add("curve")
    bar = min(24, free - 1)
    return bar if bar >= 8 else 0, (" " * gap).join(text for name, text in pieces.items() if name in kept)


def step_line(view: StepView) -> str:
    """One step as plain text."""
    parts = [f"step {view.step}/{view.steps}", f"success {figure(view.success, '.2f')}"]
    if view.reverse_kl is not None:
        parts.append(f"reverse KL {view.reverse_kl:.4f}")
    parts += [f"loss {figure(view.loss)}", f"{view.tokens_per_second:,.0f} tokens/s"]
    parts.append(f"{duration(view.seconds_left)} left")
    return "  ".join(parts) + (f"  ({view.trouble})" if view.trouble else "")


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
        if view.step % self.every == 0 or view.step in (1, view.steps) or view.trouble:
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
    """A live panel: a bar with the time left, the latest figures and the curve of held-out success, as wide as the terminal."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        self.console = console or Console()
        self.curve: list[float] = []
        self.latest: StepView | None = None
        self._rule, self._figures = BarColumn(bar_width=None), TextColumn("{task.fields[figures]}", markup=False)
        self.bar = Bar(self._figures, console=self.console)
        self.task = self.bar.add_task("train", total=1, figures="")

    def _write(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False)

    def start(self, config: TrainConfig, *, resumed_at: int | None) -> None:
        super().start(config, resumed_at=resumed_at)
        done = resumed_at or 0
        self.bar.update(self.task, total=config.steps, completed=done, figures=f"{done}/{config.steps}")
        self.bar.start()

    def step(self, view: StepView) -> None:
        self.latest = view
        self._refresh()
        if view.trouble:
            self._write(step_line(view))

    def evaluated(self, step: int, success: float) -> None:
        self.curve.append(success)
        self._refresh()
        super().evaluated(step, success)

    def _refresh(self) -> None:
        if (view := self.latest) is not None:
            self._rule.bar_width, figures = panel(view, self.curve, self.console.width)
            self.bar.columns = (self._rule, self._figures) if self._rule.bar_width else (self._figures,)
            self.bar.update(self.task, total=view.steps, completed=view.step, figures=figures)

    def finished(self, summary: Summary, before: Episode | None, after: Episode | None, run: Path, page: Path) -> None:
        self.close()
        super().finished(summary, before, after, run, page)

    def close(self) -> None:
        self.bar.stop()
