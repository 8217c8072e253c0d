"""The figures and the page, on runs whose every play is known: an arm that gets there, one that is censored, one with a failure."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest

from agentdistill.train.compare.campaign import State
from agentdistill.train.compare.outcome import read_outcome
from agentdistill.train.compare.plot import HEIGHT, WIDTH, points
from agentdistill.train.compare.results import results, write
from agentdistill.train.compare.table import table
from agentdistill.train.compare.words import read
from agentdistill.train.stats import wilson

from .examples import a_run

FAST = [(0, 0.0, 0.1), (400, 0.5, 0.5), (1040, 0.9, 0.8)]
SLOW = [(0, 0.0, 0.1), (500, 0.3, 0.3), (1000, 0.75, 0.7)]
NEVER = [(0, 0.0, 0.0), (600, 0.0, 0.1), (1100, 0.1, 0.2)]
GOOD = {"t0": (True, [True, True, False, True]), "t1": (True, [False, True, False, False]), "t2": (None, [True] * 4)}
POOR = {"t0": (False, [False] * 4), "t1": (False, [True, False, False, False])}


@pytest.fixture
def comparison(tmp_path):
    words = [
        f"runs_dir={tmp_path}",
        "name=c",
        "seeds=3",
        "budget=1000",
        "samples=4",
        "method=opd,grpo,sft_64",
        "lr=1e-3",
        "lr.opd=1e-3,2e-3",
    ]
    found, _ = read(words)
    found.hold()
    a_run(found.path, "opd-lr0.001-tuning", SLOW, POOR)
    a_run(found.path, "opd-lr0.002-tuning", FAST, GOOD)
    for seed, curve in enumerate((FAST, SLOW, NEVER)):
        a_run(found.path, f"opd-lr0.002-seed{seed}", curve, GOOD)
        a_run(found.path, f"grpo-lr0.001-seed{seed}", NEVER, POOR)
    a_run(found.path, "sft_64-lr0.001-seed0", SLOW, GOOD, stopped_by="steps")
    failures = {"sft_64-lr0.001-seed1": "loss was | not finite (exit code 5)"}
    State(found.path / "state.json", {"opd": 2e-3, "grpo": 1e-3, "sft_64": 1e-3}, failures).write()
    return found


def test_the_outcome_of_a_run_by_hand(comparison):
    found = read_outcome(comparison.path, "opd-lr0.002-seed0", comparison.protocol)
    assert found is not None
    assert found.curve == FAST
    assert (found.tokens, found.steps, found.complete, found.unjudged) == (1040, 2, True, 1)
    assert found.greedy == 1.0
    assert found.greedy_interval == wilson(2, 2)
    assert found.sampled == pytest.approx((3 / 4 + 1 / 4 + 1) / 3)
    assert found.pass_at == pytest.approx({1: 2 / 3, 2: (1 + 1 / 2 + 1) / 3, 4: 1.0})
    assert found.by_task == {"t0": (1, 1, 3, 4), "t1": (1, 1, 1, 4), "t2": (0, 0, 4, 4)}
    assert found.reach == pytest.approx(400)
    at_budget = 0.5 + 0.3 * 600 / 640
    assert found.area == pytest.approx((400 * 0.3 + 600 * (0.5 + at_budget) / 2) / 1000)
    assert read_outcome(comparison.path, "nobody", comparison.protocol) is None


def test_what_was_reached_only_beyond_the_budget_is_censored(comparison):
    curve = [(0, 0.0, 0.0), (900, 0.0, 0.1), (1300, 0.0, 0.55)]
    a_run(comparison.path, "sft_64-lr0.001-seed2", curve, POOR)
    found = read_outcome(comparison.path, "sft_64-lr0.001-seed2", comparison.protocol)
    assert found is not None
    assert found.reach is None


def test_arms_are_summed_up_without_dropping_what_was_not_reached(comparison):
    opd, grpo, sft = results(comparison).arms
    assert (opd.lr, opd.done, opd.reached) == (2e-3, 3, 2)
    assert opd.reach_median == pytest.approx(750), "of 400, 750 and a censored one the middle is 750"
    assert (grpo.reach_median, grpo.reached, grpo.done) == (None, 0, 3)
    assert grpo.sampled == pytest.approx(0.125)
    assert grpo.sampled_over_seeds == pytest.approx((0.125, 0.125))
    assert grpo.sampled_over_tasks == (0.0, 0.25), "two tasks, of 0 and 1/4"
    assert (sft.done, [run.state for run in sft.runs]) == (1, ["done", "failed", "missing"])
    assert sft.sampled_over_seeds is None
    assert (results(comparison).missing, results(comparison).failed) == (1, 1)
    assert opd.lr_at_edge
    assert not grpo.lr_at_edge


def cells(text: str, title: str) -> dict[tuple[str, str], list[str]]:
    """Rows of the table under a title, by their first two cells."""
    section = text.split(f"## {title}\n")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.replace("\\|", "¦").strip("|").split("|")] for line in section.splitlines() if line.startswith("|")
    ]
    return {(row[0], row[1]): row for row in rows}


def test_the_report_shows_the_censored_the_failed_and_the_losing_rates(comparison):
    write(comparison)
    text = (comparison.path / "report.md").read_text()
    rows = cells(text, "Result")
    assert rows["opd", "0.002*"][2:5] == ["3/3", "750 (2/3)", "0.667"]
    assert rows["grpo", "0.001"][2:5] == ["3/3", "> 1,000 (0/3)", "0.125"]
    assert rows["sft_64", "0.001"][2:6] == ["1/3", "750 (1/1)", "0.667", "–"]
    runs = cells(text, "Each run")
    assert runs["opd", "2"][3] == "> 1,000"
    assert runs["sft_64", "1"][-1] == "failed: loss was ¦ not finite (exit code 5)"
    assert runs["sft_64", "2"][-1] == "missing"
    assert runs["opd", "0"][-1] == "done, 1 plays spoilt by the environment"
    tried = cells(text, "Learning rates that were tried")
    assert tried["opd", "0.002"][-1] == "chosen"
    assert tried["opd", "0.001"][2:4] == ["0.3500", "0.125"]
    assert "grpo: 0.001 was given, not tuned." in text
    assert "1 run is **failed**" not in text
    assert "1 run **failed**" in text
    assert "1 run is still missing" in text
    assert "sft_64: 1 of its runs took 5,000 steps before the budget (least: 1,000 tokens)" in text
    assert "with seed 1000" in text
    assert "edge of its grid" in text
    arms = cells(text, "Arms")
    grpo = next(row for key, row in arms.items() if key[0] == "grpo")
    assert grpo[5] == "8"
    assert "baseline group_std" in grpo[4]
    assert "demonstrations 64" in next(row for key, row in arms.items() if key[0] == "sft_64")[3]


def test_the_results_hold_every_run_and_every_task(comparison):
    found = write(comparison)
    stored = json.loads((comparison.path / "results.json").read_text())
    assert stored["protocol"]["budget"] == 1000
    opd = stored["arms"][0]
    assert [run["outcome"]["reach"] for run in opd["runs"]] == [pytest.approx(400), pytest.approx(750), None]
    assert opd["runs"][0]["outcome"]["by_task"]["t1"] == [1, 1, 1, 4]
    assert opd["tuning"][0]["outcome"]["sampled"] == 0.125
    assert type(found).model_validate(stored) == found


def test_the_chart_has_a_line_and_a_band_for_each_arm_inside_its_frame(comparison):
    found = write(comparison)
    root = ET.fromstring((comparison.path / "plot.svg").read_text())
    space = "{http://www.w3.org/2000/svg}"
    lines = list(root.iter(f"{space}polyline"))
    bands = [each for each in root.iter(f"{space}polygon") if "fill-opacity" in each.attrib]
    assert (len(lines), len(bands)) == (3, 3)
    assert len({line.attrib["stroke"] for line in lines}) == 3
    assert len({line.attrib.get("stroke-dasharray") for line in lines}) == 3
    for each in (*lines, *bands):
        for pair in each.attrib["points"].split():
            x, y = map(float, pair.split(","))
            assert 0 <= x <= WIDTH
            assert 0 <= y <= HEIGHT
    texts = {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"opd", "grpo", "sft_64", "3 of 3 seeds, lr 0.002", "1 of 3 seeds, lr 0.001", "0", "1", "1000"} <= texts
    assert {"sampled success (temperature 1)", "training tokens (sampled by the student, or data it trained on)"} <= texts
    assert "grpo ends at 0.12" in root.attrib["aria-label"]
    grid = {x: (mean, low, high) for x, mean, low, high in points(found.arms[0], 1000)}
    assert grid[400.0] == pytest.approx(((0.5 + 0.26 + 0.2 / 3) / 3, 0.2 / 3, 0.5))
    assert max(grid) == 1000.0


def test_each_environment_has_a_panel_in_which_a_method_looks_the_same(tmp_path):
    found, _ = read([f"runs_dir={tmp_path}", "name=c", "seeds=1", "budget=1000", "method=opd,grpo", "env=math34,math4", "lr=1e-3"])
    found.hold()
    for arm in found.arms:
        a_run(found.path, f"{arm.name}-lr0.001-seed0", SLOW, GOOD)
    write(found)
    root = ET.fromstring((found.path / "plot.svg").read_text())
    panels = [each for each in root if each.tag.endswith("}g")]
    looks = []
    for panel, env in zip(panels, ("math34", "math4"), strict=True):
        texts = [text.text or "" for text in panel.iter("{http://www.w3.org/2000/svg}text")]
        assert texts[0].endswith(f": c, {env}")
        assert [text for text in texts if text.endswith(f"-{env}")] == [f"opd-{env}", f"grpo-{env}"]
        looks.append([line.attrib["stroke"] for line in panel.iter("{http://www.w3.org/2000/svg}polyline")])
    assert looks[0] == looks[1]
    assert len(set(looks[0])) == 2
    assert float(root.attrib["height"]) == 2 * HEIGHT


def test_an_empty_comparison_has_a_page_and_a_chart_too(tmp_path):
    found, _ = read([f"runs_dir={tmp_path}", "name=c", "method=opd,grpo"])
    found.hold()
    shown = write(found)
    assert (shown.missing, shown.failed) == (12, 0)
    assert "no run is done" in (found.path / "plot.svg").read_text()
    assert table(shown).count("–") >= 10
