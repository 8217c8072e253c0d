"""``report.md``: the protocol, the arms side by side, each run, and every rate that was tried."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from agentdistill.train.stats import Interval

if TYPE_CHECKING:
    from agentdistill.train.compare.results import ArmResult, Results, RunResult


def report(found: Results) -> str:
    """The whole page as Markdown."""
    parts = [f"# Comparison {found.name}", _state(found), "## Protocol", _protocol(found), "## Arms", _settings(found)]
    parts += ["## Result", table(found), _reading(found), "![sampled success over training tokens](plot.svg)"]
    parts += ["## Each run", _runs(found), "## Learning rates that were tried", _tuning(found)]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(found: Results) -> str:
    """The arms side by side."""
    protocol = found.protocol
    ks = sorted({k for arm in found.arms for k in arm.pass_at if k > 1})
    head = ["arm", "lr", "seeds", f"tokens to {protocol.target:g} sampled", "sampled", "over seeds", "over tasks", "greedy", "over tasks"]
    head += [*(f"pass@{k}" for k in ks), "teacher tokens", "minutes"]
    return _table(head, [_row(arm, found, ks) for arm in found.arms])


def _row(arm: ArmResult, found: Results, ks: Sequence[int]) -> list[str]:
    return [
        arm.name,
        "–" if arm.lr is None else f"{arm.lr:g}{'*' if arm.lr_at_edge else ''}",
        f"{arm.done}/{found.protocol.seeds}",
        reach(arm, found.protocol.budget),
        _share(arm.sampled),
        _interval(arm.sampled_over_seeds),
        _interval(arm.sampled_over_tasks),
        _share(arm.greedy),
        _interval(arm.greedy_over_tasks),
        *(_share(arm.pass_at.get(k)) for k in ks),
        "–" if arm.teacher_tokens is None else f"{arm.teacher_tokens:,.0f}",
        "–" if arm.wall_s is None else f"{arm.wall_s / 60:.1f}",
    ]


def reach(arm: ArmResult, budget: int) -> str:
    """The median, or that it lies beyond the budget, and how many of the runs got there."""
    if not arm.done:
        return "–"
    median = f"> {budget:,}" if arm.reach_median is None else f"{arm.reach_median:,.0f}"
    return f"{median} ({arm.reached}/{arm.done})"


def _state(found: Results) -> str:
    told = []
    if found.missing:
        told.append(f"{_runs_are(found.missing)} still missing; the same `agentdistill compare` command goes on.")
    if found.failed:
        told.append(f"{found.failed} run{'s' * (found.failed != 1)} **failed**, named below, without a part in any figure.")
    return " ".join(told)


def _runs_are(count: int) -> str:
    return "1 run is" if count == 1 else f"{count} runs are"


def _protocol(found: Results) -> str:
    protocol = found.protocol
    tuning, reported = protocol.tokens(tuning=True), protocol.budget
    criterion = "mean over the budget" if protocol.criterion == "area" else "value at the end"
    lines = [
        f"**Budget.** Each reported run ends with the first step that reaches {reported:,} training tokens: every token that the student "
        "sampled in training, and of episodes that others played the sampled tokens (no prompt, no tool output) that it was trained on, "
        "each time that it was. What a teacher reads or samples is not in it and is told apart.",
        f"**Learning rate.** Each arm tries each rate of its grid once, with seed {protocol.tuning_seed}, {tuning:,} training tokens and "
        f"the first {protocol.tasks} tasks of split `{protocol.tuning_split}`. The rate with the highest sampled success ({criterion}) is "
        "taken; of equal ones the lower. Where the grid has one rate, nothing was tuned. Neither that seed nor those tasks are reported.",
        f"**Reported runs.** {protocol.seeds} of each arm, with seeds 0 to {protocol.seeds - 1}, measured on the first {protocol.tasks} "
        f"tasks of split `{protocol.split}`, with the same draws in every arm, seed and measurement: before training, every "
        f"{protocol.interval:,} training tokens and at the end, greedily and {protocol.plays} times a task at temperature 1; and once more "
        f"after training, greedily and {protocol.samples} times at temperature 1, which is what the figures at the end are of.",
        f"**Tokens to {protocol.target:g} sampled.** On the straight line between the last measurement below {protocol.target:g} and the "
        f"first at or above it. A run without one is censored: `> {reported:,}`. Medians rank censored runs above all others and are "
        "censored where the middle is.",
        "**Intervals** are of 95 %. Over seeds: Student's t over the reported runs, of which the column says how many there are; with few "
        "of them it is wide, as it should be. Over tasks: bootstrap (2,000 draws) of each task's share over all its plays in all runs; "
        "where all plays of all tasks agree it has no width and says nothing. Of one run's greedy success: Wilson. "
        "pass@k is the unbiased estimate 1 − C(n−c, k)/C(n, k) of Chen et al. (arXiv 2107.03374).",
    ]
    return "\n".join(f"* {line}" for line in lines)


def _settings(found: Results) -> str:
    rows = [
        [
            arm.name,
            f"{arm.settings['env']['name']}{_told(arm.settings['env'])}",
            str(arm.settings["method"].get("title") or arm.settings["method"]["name"]),
            _told(arm.settings["method"].get("sampler", {})).strip(" ()"),
            "; ".join(f"{name}: {_told(term).strip(' ()')}" for name, term in arm.settings["method"].get("terms", {}).items()),
            str(arm.settings["method"].get("group_size", "")),
            str(arm.settings["rollout"]["batch"]),
            ", ".join(f"{rate:g}" for rate in arm.grid),
        ]
        for arm in found.arms
    ]
    return _table(["arm", "environment", "method", "who plays", "terms", "group", "batch", "grid"], rows)


def _told(values: dict[str, Any]) -> str:
    """Settings as (key value, …), without names and what is not set."""
    shown = [
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in values.items()
        if key not in ("name", "plugin") and value is not None
    ]
    return f" ({', '.join(shown)})" if shown else ""


def _reading(found: Results) -> str:
    notes = []
    if any(arm.lr_at_edge for arm in found.arms):
        notes.append("\\* The rate is at the edge of its grid: a better one may lie outside.")
    for arm in found.arms:
        short = [run for run in arm.runs if run.outcome is not None and not run.outcome.complete]
        if short:
            least = min(run.outcome.tokens for run in short if run.outcome is not None)
            notes.append(
                f"{arm.name}: {len(short)} of its runs took {found.protocol.steps:,} steps before the budget (least: {least:,} tokens)."
            )
        if arm.lr is None and all(run.state == "failed" for run in arm.tuning):
            notes.append(f"{arm.name}: no tuning run ended, so it has no learning rate and no reported runs.")
    return "\n\n".join(notes)


def _runs(found: Results) -> str:
    rows = [_run_row(arm, run, found.protocol.budget) for arm in found.arms for run in arm.runs]
    head = ["arm", "seed", "tokens", f"tokens to {found.protocol.target:g}", "sampled", "over tasks", "greedy", "Wilson", "state"]
    return _table(head, rows)


def _run_row(arm: ArmResult, run: RunResult, budget: int) -> list[str]:
    outcome = run.outcome
    if outcome is None:
        return [arm.name, str(run.seed), *["–"] * 6, f"{run.state}: {run.why}" if run.why else run.state]
    return [
        arm.name,
        str(run.seed),
        f"{outcome.tokens:,}",
        f"> {budget:,}" if outcome.reach is None else f"{outcome.reach:,.0f}",
        _share(outcome.sampled),
        _interval(outcome.sampled_interval),
        _share(outcome.greedy),
        _interval(outcome.greedy_interval),
        f"done, {outcome.unjudged} plays spoilt by the environment" if outcome.unjudged else "done",
    ]


def _tuning(found: Results) -> str:
    rows = [
        [
            arm.name,
            f"{each.lr:g}",
            "–" if each.score is None else f"{each.score:.4f}",
            "–" if each.outcome is None else _share(each.outcome.sampled),
            "–" if each.outcome is None else f"{each.outcome.tokens:,}",
            "chosen" if each.lr == arm.lr else f"failed: {each.why}" if each.why else "" if each.outcome else each.state,
        ]
        for arm in found.arms
        for each in arm.tuning
    ]
    given = [f"{arm.name}: {arm.grid[0]:g} was given, not tuned." for arm in found.arms if not arm.tuning]
    shown = _table(["arm", "lr", f"score ({found.protocol.criterion})", "sampled at the end", "tokens", ""], rows) if rows else ""
    return "\n\n".join(part for part in (shown, *given) if part)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _interval(interval: Interval | None) -> str:
    return "–" if interval is None else f"{interval[0]:.2f}–{interval[1]:.2f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Aligned, so that it reads well as text too."""
    lines = [list(head), *([cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    shown = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines]
    return "\n".join([shown[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *shown[1:]])
