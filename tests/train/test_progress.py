"""What a run shows: lines that say why, a panel that fits its terminal, and the choice between the two."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from agentdistill.train.progress import PlainProgress, RichProgress, StepView, panel, progress_for, sparkline, step_line, stopwatch

VIEW = StepView(
    step=12, steps=80, success=0.34, reverse_kl=0.1234, loss=0.5, tokens_per_second=1234.0, seconds_left=184.0, skipped=False, failed=0
)
CURVE = [index / 30 for index in range(30)]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_step_without_trouble_is_one_plain_line() -> None:
    assert step_line(VIEW) == "step 12/80  success 0.34  reverse KL 0.1234  loss 0.500  1,234 tokens/s  3 min 04 s left"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"skipped": True}, "(non-finite: step skipped)"),
        (
            {"skipped": True, "failed": 16, "skipped_because": "nothing to train on"},
            "(16 episodes failed; nothing to train on: step skipped)",
        ),
        ({"failed": 1}, "(1 episode failed)"),
    ],
)
def test_trouble_is_told_with_its_reason(change: dict, told: str) -> None:
    assert step_line(replace(VIEW, **change)).endswith(f"left  {told}")


def test_lines_with_trouble_are_never_left_out() -> None:
    stream = io.StringIO()
    progress = PlainProgress(stream, every=10)
    for view in (replace(VIEW, step=11), replace(VIEW, step=13, failed=2), replace(VIEW, step=20)):
        progress.step(view)
    assert re.findall(r"step (\d+)/", stream.getvalue()) == ["13", "20"]


@pytest.mark.parametrize("width", range(10, 200, 3))
@pytest.mark.parametrize("view", [VIEW, replace(VIEW, success=None, reverse_kl=None, seconds_left=40_000, failed=3, skipped=True)])
def test_the_panel_fits_any_terminal(view: StepView, width: int) -> None:
    bar, text = panel(view, CURVE, width)
    assert len(text) + (bar + 1 if bar else 0) <= width
    assert text.startswith("12/80")


def test_forty_columns_keep_speed_and_time_left() -> None:
    assert panel(VIEW, CURVE, 40) == (0, "12/80 success 0.34 1,234 tok/s 3:04 left")


def test_what_matters_less_goes_first() -> None:
    shown = {width: panel(VIEW, CURVE, width) for width in (24, 60, 80, 160)}
    assert shown[24] == (0, f"12/80 {sparkline(CURVE, 8)} 3:04 left")
    assert shown[60] == (0, "12/80 success 0.34 reverse KL 0.123 1,234 tok/s 3:04 left")
    assert shown[80] == (0, f"12/80  success 0.34  {sparkline(CURVE, 17)}  reverse KL 0.123  1,234 tok/s  3:04 left")
    assert shown[160] == (24, f"12/80  success 0.34  {sparkline(CURVE)}  reverse KL 0.123  1,234 tok/s  3:04 left")
    assert panel(VIEW, [], 80)[0] > 8, "without a curve yet there is room for a bar"


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00"), (59.6, "1:00"), (184, "3:04"), (3_600, "1:00:00"), (40_000, "11:06:40")])
def test_the_stopwatch_is_short(seconds: float, shown: str) -> None:
    assert stopwatch(seconds) == shown


@pytest.mark.parametrize("width", [40, 80, 160])
def test_a_terminal_shows_the_panel_uncut(width: int) -> None:
    stream = Terminal()
    progress = RichProgress(Console(file=stream, force_terminal=True, width=width, color_system=None, legacy_windows=False))
    progress.bar.start()
    progress.evaluated(0, 0.25)
    progress.step(VIEW)
    progress.step(replace(VIEW, step=13, failed=4))
    progress.close()
    shown = stream.getvalue()
    assert "13/80" in shown
    assert "1,234 tok/s" in shown
    assert "3:04 left" in shown
    assert "…" not in shown
    assert "(4 episodes failed)" in shown.replace("\n", "")


@pytest.mark.parametrize(("term", "kind"), [("dumb", PlainProgress), ("unknown", PlainProgress), ("xterm-256color", RichProgress)])
def test_the_panel_is_for_terminals_that_can_redraw(monkeypatch: pytest.MonkeyPatch, term: str, kind: type) -> None:
    monkeypatch.setenv("TERM", term)
    assert type(progress_for(Terminal())) is kind
    assert type(progress_for(io.StringIO())) is PlainProgress


def test_a_dumb_terminal_gets_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    progress_for(stream).step(VIEW)
    assert stream.getvalue() == step_line(VIEW) + "\n"
