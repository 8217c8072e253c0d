"""Runs what a comparison lacks: the tuning runs of each arm, then the reported ones with the rate that was chosen.

    missing ──> next_jobs ──> start (at most ``jobs`` at once) ──> over: done, failed, or interrupted ──> choose ──> next_jobs …

A tuning run that failed has no score, and its rate is not chosen; the choice is made once. A reported run that failed is tried again by
the next start, from its checkpoint.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentdistill.clock import SYSTEM_CLOCK, Clock
from agentdistill.store import replace_text
from agentdistill.train.compare.jobs import Child, Launcher, Process, last_words, words_for
from agentdistill.train.compare.outcome import Outcome, read_outcome
from agentdistill.train.compare.protocol import Arm, Comparison, Job

STOPPED = (130, 143, -signal.SIGINT, -signal.SIGTERM)
"""Exit codes of a run that was asked to stop; the last two, where it had hardly begun."""
PATIENCE = 0.2
"""Seconds between looks at the processes."""


@dataclass
class State:
    """``state.json``: what was decided and what went wrong; the runs themselves say the rest."""

    path: Path
    chosen: dict[str, float] = field(default_factory=dict)
    """Arm -> its learning rate."""
    failures: dict[str, str] = field(default_factory=dict)
    """Run -> why it failed."""

    @classmethod
    def read(cls, folder: Path) -> State:
        path = folder / "state.json"
        known: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        return cls(path, known.get("chosen", {}), known.get("failures", {}))

    def write(self) -> None:
        replace_text(self.path, json.dumps({"chosen": self.chosen, "failures": self.failures}, indent=1))


class Campaign:
    """One sitting with a comparison; the caller holds its lock."""

    def __init__(
        self,
        comparison: Comparison,
        *,
        jobs: int = 1,
        say: Callable[[str], None] = print,
        launch: Launcher = Child,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.comparison, self.jobs, self.say, self.launch, self.clock = comparison, jobs, say, launch, clock
        self.state = State.read(comparison.path)
        self.stop_requested: int | None = None
        """Number of the signal that asked to stop, if one did."""
        self._running: dict[str, tuple[Job, Process]] = {}
        self._tried: set[str] = set()
        self._total = sum(len(comparison.tuning(arm)) + comparison.protocol.seeds for arm in comparison.arms)

    def run(self) -> None:
        """Until nothing is missing that can be had, or a stop was requested and every process has ended."""
        for arm in self.comparison.arms:  # a reported run gets another chance
            for job in self.comparison.reported(arm, self.state.chosen.get(arm.name, 0.0)):
                self.state.failures.pop(job.name, None)
        stopped = False
        while True:
            if self.stop_requested is None:
                self._start()
            elif not stopped:
                stopped = True
                for _, process in self._running.values():
                    process.stop()
            if not self._running:
                return
            self.clock.sleep(PATIENCE)
            self._collect()

    # ---- inside ----------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        for job in self._wanted():
            if len(self._running) >= self.jobs:
                return
            number = self._started()
            self._tried.add(job.name)
            threads = 1 if self.jobs > 1 and "learner.threads" not in " ".join(job.arm.overrides) else None
            words = words_for(self.comparison.path, job.name, job.overrides(self.comparison.protocol), threads=threads)
            self.say(f"[{number}/{self._total}] {self._title(job)}: {'goes on' if 'resume=true' in words else 'begins'}")
            self._running[job.name] = (job, self.launch(words, self._log(job)))

    def _wanted(self) -> list[Job]:
        """What can be started now, tuning first."""
        wanted = [job for arm in self.comparison.arms for job in self._tuning(arm)]
        for arm in self.comparison.arms:
            rate = self._rate(arm)
            wanted += self.comparison.reported(arm, rate) if rate is not None else []
        return [job for job in wanted if job.name not in self._tried and not self.finished(job)]

    def _tuning(self, arm: Arm) -> list[Job]:
        return [] if arm.name in self.state.chosen else self.comparison.tuning(arm)

    def _rate(self, arm: Arm) -> float | None:
        """The arm's rate, decided as soon as it can be; ``None``: its tuning is not over, or gave none."""
        if arm.name not in self.state.chosen:
            jobs = self.comparison.tuning(arm)
            if any(not self.finished(job) and job.name not in self.state.failures for job in jobs):
                return None
            best = best_rate(self.comparison, arm)
            if best is None:
                return None
            self.state.chosen[arm.name] = best
            self.state.write()
            if jobs:
                self.say(f"{arm.name}: learning rate {best:g} of {', '.join(f'{rate:g}' for rate in arm.rates)}")
        return self.state.chosen[arm.name]

    def _collect(self) -> None:
        for name, (job, process) in [*self._running.items()]:
            code = process.poll()
            if code is None:
                continue
            del self._running[name]
            if code == 0 and (outcome := self.outcome(job)) is not None:
                self.state.failures.pop(name, None)
                self.say(f"{self._title(job)}: sampled success {outcome.sampled:.3f} after {outcome.tokens:,} tokens")
            elif self.stop_requested is not None and code in STOPPED:
                self.say(f"{self._title(job)}: stopped, goes on another time")
            else:
                self.state.failures[name] = last_words(self._log(job), code)
                self.say(f"{self._title(job)}: failed: {self.state.failures[name]}; log: {self._log(job)}")
            self.state.write()

    def finished(self, job: Job) -> bool:
        return (self.comparison.path / job.name / "summary.json").is_file()

    def outcome(self, job: Job) -> Outcome | None:
        return read_outcome(self.comparison.path, job.name, self.comparison.protocol)

    def _started(self) -> int:
        """Which one the next run is, counting those that earlier sittings finished."""
        finished = {path.parent.name for path in self.comparison.path.glob("*/summary.json")}
        return len(finished | self._tried) + 1

    def _title(self, job: Job) -> str:
        return f"{job.arm.name}, lr {job.rate:g}, {'tuning ' if job.tuning else ''}seed {job.seed}"

    def _log(self, job: Job) -> Path:
        return self.comparison.path / "logs" / f"{job.name}.log"


def score(outcome: Outcome, comparison: Comparison) -> float:
    """What the tuning criterion says of a run."""
    return outcome.area if comparison.protocol.criterion == "area" else outcome.sampled


def best_rate(comparison: Comparison, arm: Arm) -> float | None:
    """The rate with the highest score, of equal ones the lowest; the only one where there is but one. ``None``: no tuning run has ended."""
    if len(arm.rates) == 1:
        return arm.rates[0]
    scored = []
    for job in comparison.tuning(arm):
        outcome = read_outcome(comparison.path, job.name, comparison.protocol, tuning=True)
        if outcome is not None:
            scored.append((score(outcome, comparison), -job.rate))
    return -max(scored)[1] if scored else None
