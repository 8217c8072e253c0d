"""From words to a comparison.

method=opd,grpo env=math34,math4     what is compared: several options of a group, every combination is an arm
seeds=3 budget=400000 …              the protocol (protocol.py)
lr=3e-4,6e-4,1e-3                    the grid of learning rates; lr.grpo=1e-4,3e-4 is that of the arms with this option
rollout.batch=64 teacher=nano        anything else `agentdistill train` takes, for all arms
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

from pydantic import ValidationError

from agentdistill.config import compose_train, sweep
from agentdistill.config.groups import GROUPS
from agentdistill.config.read import parse_override
from agentdistill.errors import ConfigError, unknown
from agentdistill.store import require_name
from agentdistill.train.compare.protocol import Arm, Comparison, Protocol

RATES = ("3e-4", "6e-4", "1e-3")
"""The grid of an arm that was given none."""
OWN = {
    "run": "every run is named after its arm, rate and seed; name the comparison with name=NAME",
    "resume": "a comparison always goes on where it stands",
    "seed": "the protocol sets it; seeds=N says how many, tuning_seed=N which one chooses the rates",
    "learner.lr": "it is tuned for each arm; give its grid with lr=3e-4,6e-4",
    "eval": "the protocol measures; its words are tasks, plays, samples, every, split and tuning_split",
}
"""Settings of a training run that a comparison makes itself."""
QUIET = ("annotate=0", "keep_checkpoints=1")
"""Laid under what the user says: a comparison has many runs."""


def read(words: Sequence[str]) -> tuple[Comparison, int]:
    """The comparison and how many of its runs go at the same time.

    Raises:
        ConfigError: a sentence for what is wrong; nothing has been written.
        PluginError: a plug-in that an arm names does not load.
    """
    said: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f"{word!r} is not key=value; for instance method=opd,grpo seeds=3 lr=3e-4,6e-4")
        said[key.strip()] = value.strip()
    name, folder, jobs = said.pop("name", "compare"), Path(said.pop("runs_dir", "runs")), said.pop("jobs", "1")
    require_name(name)
    if not jobs.isdecimal() or int(jobs) < 1:
        raise ConfigError(f"jobs={jobs}: a whole number from 1 is wanted, the runs that go at the same time")
    protocol = _protocol({key: said.pop(key) for key in [*said] if key in Protocol.model_fields})
    grids = {key: _grid(key, said.pop(key)) for key in [*said] if key == "lr" or key.startswith("lr.")}
    comparison = Comparison(path=folder / name, protocol=protocol, arms=_arms(said, grids))
    for arm in comparison.arms:
        require_name(f"{arm.name}-lr0.000123457-seed999")
    return comparison, int(jobs)


def _protocol(said: Mapping[str, str]) -> Protocol:
    values = {key: parse_override(f"{key}={value}").value for key, value in said.items()}
    try:
        return Protocol.model_validate(values)
    except ValidationError as error:
        problems = []
        for each in error.errors():
            where = ".".join(map(str, each["loc"]))
            told = each["msg"].removeprefix("Value error, ")
            problems.append(f"{where}={said[where]}: {told[0].lower()}{told[1:]}" if where else told)
        raise ConfigError("\n".join(problems)) from error


def _grid(key: str, text: str) -> tuple[float, ...]:
    """Distinct positive numbers, in the order given."""
    rates = []
    for entry in _entries(key, text):
        try:
            rate = float(entry)
        except ValueError:
            rate = math.nan
        if not (math.isfinite(rate) and rate > 0):
            raise ConfigError(f"{key}={text}: a grid is of positive numbers with commas between, for instance {key}=3e-4,6e-4,1e-3")
        rates.append(rate)
    if len(set(rates)) < len(rates):
        raise ConfigError(f"{key}={text} names a rate twice")
    return tuple(rates)


def _entries(key: str, text: str) -> list[str]:
    return [combination[0].partition("=")[2].strip() for combination in sweep([f"{key}={text}"])]


def _arms(said: Mapping[str, str], grids: Mapping[str, tuple[float, ...]]) -> tuple[Arm, ...]:
    compared: dict[str, list[str]] = {}
    common = list(QUIET)
    for key, value in said.items():
        own = next((OWN[part] for part in (key, key.split(".")[0]) if part in OWN), None)
        if own is not None:
            raise ConfigError(f"{key}= is not yours to set in a comparison: {own}")
        entries = _entries(key, value)
        if len(entries) == 1:
            common.append(f"{key}={value}")
        elif key not in GROUPS:
            raise ConfigError(
                f"{key}={value}: what is compared are options of groups ({', '.join(GROUPS)}); write a YAML file for each setting and name "
                "the files, or make two comparisons"
            )
        elif len(set(entries)) < len(entries):
            raise ConfigError(f"{key}={value} names an option twice")
        else:
            compared[key] = entries
    options = {option for entries in compared.values() for option in entries}
    for key in grids:
        if key != "lr" and key.removeprefix("lr.") not in options:
            raise ConfigError(
                f"{key}= is the grid of the arms with that option: {unknown('compared option', key.removeprefix('lr.'), options)}"
            )
    arms = tuple(_arm(dict(zip(compared, chosen, strict=True)), common, grids) for chosen in product(*compared.values()))
    names = [arm.name for arm in arms]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"two arms would be called {twice!r}; rename one of the files that are compared")
    return arms


def _arm(chosen: Mapping[str, str], common: Sequence[str], grids: Mapping[str, tuple[float, ...]]) -> Arm:
    overrides = (*common, *(f"{group}={option}" for group, option in chosen.items()))
    composed = compose_train(overrides)
    label = "-".join(map(_label, chosen.values())) or f"{composed.config.method.name}-{composed.config.env.name}"
    own = [key for option in chosen.values() if (key := f"lr.{option}") in grids]
    if len(own) > 1:
        raise ConfigError(f"the arm {label!r} has two grids, {' and '.join(own)}; leave one out")
    rates = grids[own[0]] if own else grids.get("lr") or tuple(map(float, RATES))
    left_out = ("run", "runs_dir", "resume", "seed", "steps", "budget", "eval")
    settings = {key: value for key, value in composed.resolved.items() if key not in left_out}
    return Arm(name=label, overrides=overrides, rates=rates, resolved=settings)


def _label(option: str) -> str:
    """Of an option that may be a path or a hub id, as part of a run's name."""
    name = option.rstrip("/").rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9._]+", "_", name.removesuffix(".yaml").removesuffix(".yml")).lstrip("._") or "option"
