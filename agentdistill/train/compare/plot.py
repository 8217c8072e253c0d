"""``plot.svg``: sampled success over training tokens, a line an arm and a band from its lowest to its highest seed. Needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from agentdistill.store.chart import short
from agentdistill.train.stats import at

if TYPE_CHECKING:
    from agentdistill.train.compare.results import ArmResult, Results

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 900, 480, 66, 52, 62
PLOT = 560
"""Width of the plotted part; the legend is beside it."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#000000")
"""After Okabe and Ito, "Color Universal Design" (2008), the yellow darkened for white ground; told apart without seeing red or green."""
DASHES = ("", "9 4", "2 4", "12 4 2 4")
"""So that neighbours differ in print without colour too."""
MARKS = ("circle", "square", "triangle", "diamond")
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#222}.title{font-size:16px;font-weight:600}.grid{stroke:#ddd;stroke-width:1}"
    ".axis{stroke:#444;stroke-width:1.2}.small{font-size:12px;fill:#555}"
)


def plot(found: Results) -> str:
    """The chart as a file of its own: a panel an environment, in which the same place in the legend has the same look."""
    title = f"Sampled success on held-out tasks: {found.name}"
    panels: dict[str, list[ArmResult]] = {}
    for arm in found.arms:
        panels.setdefault(str(arm.settings["env"]["name"]), []).append(arm)
    told = "; ".join(f"{arm.name} ends at {arm.sampled:.2f}" for arm in found.arms if arm.sampled is not None) or "no run is done"
    drawn, top = [], 0
    for name, arms in panels.items():
        heading = f"{title}, {name}" if len(panels) > 1 else title
        drawn.append(f"<g transform='translate(0 {top})'>{_panel(heading, arms, found)}</g>")
        top += max(HEIGHT, TOP + 50 + 40 * len(arms))
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {top}' width='{WIDTH}' height='{top}' role='img' "
        f"aria-label='{escape(f'{title}. {told}', quote=True)}'><style>{STYLE}</style>"
        f"<rect width='{WIDTH}' height='{top}' fill='#fff'/>{''.join(drawn)}</svg>\n"
    )


def _panel(heading: str, arms: Sequence[ArmResult], found: Results) -> str:
    budget, seeds = found.protocol.budget, found.protocol.seeds
    grids = {index: points(arm, budget) for index, arm in enumerate(arms) if arm.done}
    parts = [f"<text x='{LEFT}' y='28' class='title'>{escape(heading)}</text>", _axes(budget)]
    parts += [_band(grid, index, budget) for index, grid in grids.items()]
    parts += [_line(grid, index, budget) for index, grid in grids.items()]
    parts.append(_target(found.protocol.target))
    parts += [_legend(index, arm, seeds) for index, arm in enumerate(arms)]
    note = f"<text x='{LEFT + PLOT + 44}' y='{TOP + 16 + 40 * len(arms)}' class='small'>line: mean; band: range of seeds</text>"
    return "".join([*parts, note])


def points(arm: ArmResult, budget: int) -> list[tuple[float, float, float, float]]:
    """(tokens, mean, lowest, highest) over the arm's runs, at every place where one of them was measured; no run beyond its own end."""
    curves = [[(float(x), sampled) for x, _, sampled in run.outcome.curve] for run in arm.runs if run.outcome is not None]
    last = min(curve[-1][0] for curve in curves)
    places = sorted({min(x, float(budget)) for curve in curves for x, _ in curve if x <= last} | {min(last, float(budget))})
    found = []
    for x in places:
        values = [at(curve, x) for curve in curves]
        found.append((x, sum(values) / len(values), min(values), max(values)))
    return found


def _x(tokens: float, budget: int) -> float:
    return LEFT + PLOT * tokens / budget


def _y(success: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * success


def _axes(budget: int) -> str:
    parts = []
    for tenth in range(0, 11, 2):
        y = _y(tenth / 10)
        parts.append(f"<line x1='{LEFT}' x2='{LEFT + PLOT}' y1='{y:.1f}' y2='{y:.1f}' class='grid'/>")
        parts.append(f"<text x='{LEFT - 8}' y='{y + 4:.1f}' text-anchor='end'>{tenth / 10:g}</text>")
    for quarter in range(5):
        x = _x(budget * quarter / 4, budget)
        parts.append(f"<line x1='{x:.1f}' x2='{x:.1f}' y1='{_y(0):.1f}' y2='{_y(0) + 5:.1f}' class='axis'/>")
        parts.append(f"<text x='{x:.1f}' y='{_y(0) + 21:.1f}' text-anchor='middle'>{short(budget * quarter / 4)}</text>")
    parts.append(f"<path d='M{LEFT} {TOP}V{_y(0):.1f}H{LEFT + PLOT}' class='axis' fill='none'/>")
    across, up = "training tokens (sampled by the student, or data it trained on)", "sampled success (temperature 1)"
    parts.append(f"<text x='{LEFT + PLOT / 2:g}' y='{HEIGHT - 12}' text-anchor='middle'>{across}</text>")
    parts.append(f"<text transform='translate(18 {(_y(0) + TOP) / 2:.0f}) rotate(-90)' text-anchor='middle'>{up}</text>")
    return "".join(parts)


def _target(target: float) -> str:
    y = _y(target)
    line = f"<line x1='{LEFT}' x2='{LEFT + PLOT}' y1='{y:.1f}' y2='{y:.1f}' stroke='#777' stroke-dasharray='3 3'/>"
    return f"{line}<text x='{LEFT + PLOT + 4}' y='{y + 4:.1f}' class='small'>{target:g}</text>"


def _band(grid: Sequence[tuple[float, float, float, float]], index: int, budget: int) -> str:
    above = [f"{_x(x, budget):.1f},{_y(high):.1f}" for x, _, _, high in grid]
    below = [f"{_x(x, budget):.1f},{_y(low):.1f}" for x, _, low, _ in reversed(grid)]
    return f"<polygon points='{' '.join(above + below)}' fill='{COLOURS[index % len(COLOURS)]}' fill-opacity='0.14'/>"


def _line(grid: Sequence[tuple[float, float, float, float]], index: int, budget: int) -> str:
    path = " ".join(f"{_x(x, budget):.1f},{_y(mean):.1f}" for x, mean, _, _ in grid)
    line = f"<polyline points='{path}' fill='none' {_stroke(index)}/>"
    step = max(1, len(grid) // 8)
    return line + "".join(_mark(_x(x, budget), _y(mean), index) for x, mean, _, _ in grid[::step])


def _stroke(index: int) -> str:
    dash = DASHES[index % len(DASHES)]
    pattern = f" stroke-dasharray='{dash}'" if dash else ""
    return f"stroke='{COLOURS[index % len(COLOURS)]}' stroke-width='2.4' stroke-linejoin='round'{pattern}"


def _mark(x: float, y: float, index: int) -> str:
    fill = f"fill='{COLOURS[index % len(COLOURS)]}'"
    kind = MARKS[index % len(MARKS)]
    if kind == "circle":
        return f"<circle cx='{x:.1f}' cy='{y:.1f}' r='4' {fill}/>"
    corners = {
        "square": ((-4, -4), (4, -4), (4, 4), (-4, 4)),
        "triangle": ((0, -5), (4.6, 4), (-4.6, 4)),
        "diamond": ((0, -5.4), (5.4, 0), (0, 5.4), (-5.4, 0)),
    }[kind]
    return f"<polygon points='{' '.join(f'{x + right:.1f},{y + down:.1f}' for right, down in corners)}' {fill}/>"


def _legend(index: int, arm: ArmResult, seeds: int) -> str:
    x, y = LEFT + PLOT + 44, TOP + 10 + index * 40
    runs = f"{arm.done} of {seeds} seed{'s' * (seeds != 1)}" + ("" if arm.lr is None else f", lr {arm.lr:g}")
    line = f"<line x1='{x}' x2='{x + 34}' y1='{y}' y2='{y}' {_stroke(index)}/>{_mark(x + 17, y, index)}"
    return (
        f"{line}<text x='{x + 42}' y='{y + 4}'>{escape(arm.name)}</text><text x='{x + 42}' y='{y + 20}' class='small'>{escape(runs)}</text>"
    )
