"""The player loop: many episodes at once over few policies, with blocking environments beside it.

    waiting ──start──> reset ─┐                      ┌──> step (executor) ──┐
                              ├──> policy.submit ──advance                  ├──> Episode
                              └──<──────────────────── next turn ───<───────┘

An environment that raises costs its episode only: it is tried again from the start, in a fresh environment, and after the last
try it is recorded as ``env_error`` (or ``sandbox_error``), which never trains. A policy that fails ends the call: the engine is gone.
Every environment that was made is closed, however the call ends (deadlines and late ones: calls.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentdistill.clock import SYSTEM_CLOCK, Clock, Executor, InlineExecutor
from agentdistill.env import AgentEnv
from agentdistill.errors import EnvError, PolicyError, SandboxError, boundary, unknown
from agentdistill.policy.protocol import Policy
from agentdistill.render import Renderer
from agentdistill.rollout.calls import Call, Calls, close, staying
from agentdistill.rollout.plan import Play
from agentdistill.rollout.running import Running
from agentdistill.types import Author, Completion, Episode, Failure, Sampling, Status, StopReason


@dataclass(kw_only=True)
class Players:
    """All that a play needs besides its task."""

    make_env: Callable[[], AgentEnv]
    policies: Mapping[Author, Policy]
    renderer: Renderer
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int = 1024
    in_flight: int = 128
    retries: int = 1
    """Fresh tries after an environment failed."""
    call_timeout: float | None = None
    """Seconds that one call of an environment may take, where the executor has threads. ``None``: no deadline."""
    overlap: bool = False
    """Let policies go on while environments are busy. Which episodes share a batch then depends on timing, and so do the last bits."""
    executor: Executor = field(default_factory=InlineExecutor)
    clock: Clock = SYSTEM_CLOCK
    versions: dict[str, str] = field(default_factory=dict)


def play(plays: Sequence[Play], players: Players, *, on_episode: Callable[[Episode], None] | None = None) -> list[Episode]:
    """Play every play and return the episodes in the same order.

    Args:
        on_episode: called with each episode as soon as it is over.

    Raises:
        PolicyError: a policy failed, or answered what it was not asked.
        ValueError: two plays of one id, a play whose author has no policy, or nothing may be in flight.
    """
    _require_playable(plays, players)
    loop = _Loop(players, on_episode or (lambda episode: None))
    done = loop.run(plays)
    return [done[each.id] for each in plays]


def _require_playable(plays: Sequence[Play], players: Players) -> None:
    if players.in_flight < 1:
        raise ValueError(f"in_flight must be at least 1, got {players.in_flight}")
    seen: set[str] = set()
    for each in plays:
        if each.id in seen:
            raise ValueError(f"two plays have the id {each.id!r}; an id means one episode")
        if each.author not in players.policies:
            raise ValueError(f"play {each.id!r}: {unknown('policy of author', each.author, players.policies)}")
        seen.add(each.id)


class _Loop:
    def __init__(self, players: Players, on_episode: Callable[[Episode], None]) -> None:
        self.players = players
        self.on_episode = on_episode
        self.running: dict[str, Running] = {}
        self.calls = Calls(players.executor, players.clock, players.call_timeout)
        self.queued: dict[Author, set[str]] = {author: set() for author in players.policies}
        """Episodes whose next turn the policy owes."""
        self.done: dict[str, Episode] = {}

    def run(self, plays: Sequence[Play]) -> dict[str, Episode]:
        waiting = deque(plays)
        try:
            while waiting or self.running:
                while waiting and len(self.running) < self.players.in_flight:
                    self._start(waiting.popleft())
                if self.players.overlap:
                    self._collect_calls(block=not any(self.queued.values()))
                else:
                    self._settle_calls()
                for author, policy in self.players.policies.items():
                    if self.queued[author]:
                        for id, completion in self._advance(policy):
                            if id not in self.queued[author]:
                                raise PolicyError(f"policy {policy.name!r} answered for episode {id!r}, which does not wait for it")
                            self.queued[author].remove(id)
                            self._completed(self.running[id], completion)
        except BaseException:
            self._abandon()
            raise
        return self.done

    def _start(self, play: Play, attempts: tuple[str, ...] = ()) -> None:
        players = self.players
        running = Running(
            play=play,
            renderer=players.renderer,
            sampling=players.sampling,
            max_tokens=players.max_tokens,
            versions=players.versions,
            attempts=attempts,
        )
        self.running[play.id] = running

        def reset() -> Any:
            running.env = players.make_env()
            return running.env.reset(seed=play.seed, options={"task": play.task})

        self.calls.submit(running, reset, None)

    def _collect_calls(self, *, block: bool) -> None:
        """Handle every call that is done; with ``block``, wait for one first, because nothing else can move."""
        for call in self.calls.collect(block=block):
            self._returned(call)
        self._give_up_late()

    def _settle_calls(self) -> None:
        """Handle every call after all have come back, in the order of their submission: which thread was faster leaves no trace."""
        while self.calls:
            back: list[Call] = []
            while self.calls:
                back += self.calls.collect(block=True)
                self._give_up_late()
            for call in sorted(back, key=lambda call: call.number):
                self._returned(call)  # a fresh try is a new call

    def _give_up_late(self) -> None:
        for call, error in self.calls.give_up_late():
            self._failed(call, error)

    def _returned(self, call: Call) -> None:
        running, completion = call.running, call.completion
        stop = None
        try:
            with boundary(EnvError, call.where), staying(call.where):
                result = call.result()
                if completion is None:
                    running.began(*result)
                else:
                    observation, reward, terminated, truncated, info = result
                    running.said(completion, reply=observation, reward=reward, info=info, env_s=call.seconds)
                    stop = _stop_reason(terminated, truncated, info)
        except (EnvError, SandboxError) as error:
            self._failed(call, error)
            return
        if stop is None:
            self._want(running)
        else:
            self._finish(running, running.finish(stop))

    def _want(self, running: Running) -> None:
        request = running.request()
        if isinstance(request, StopReason):
            self._finish(running, running.finish(request))
            return
        policy = self.players.policies[running.play.author]
        window = policy.context_window
        if window is not None and request.prefix_length + len(request.context_ids) + 1 > window:
            self._finish(running, running.finish(StopReason.CONTEXT_OVERFLOW))
            return
        running.submitted_at = self.players.clock.now()
        with boundary(PolicyError, f"policy {policy.name!r}"):
            policy.submit(request)
        self.queued[running.play.author].add(request.id)

    def _advance(self, policy: Policy) -> Sequence[tuple[str, Completion]]:
        with boundary(PolicyError, f"policy {policy.name!r}"):
            return policy.advance()

    def _completed(self, running: Running, completion: Completion) -> None:
        running.policy_seconds = self.players.clock.now() - running.submitted_at
        if completion.finish_reason != "stop":
            running.said(completion)
            stop = StopReason.MAX_TOKENS if completion.finish_reason == "length" else StopReason.CANCELLED
            self._finish(running, running.finish(stop))
        else:
            env = running.env
            assert env is not None, "a completion follows a reset"
            self.calls.submit(running, lambda: env.step(completion.message), completion)

    def _failed(self, call: Call, error: EnvError | SandboxError) -> None:
        running = call.running
        cause = error.__cause__ or error
        if len(running.attempts) < self.players.retries:
            self._drop(running)
            self._start(running.play, (*running.attempts, str(error)))
            return
        failure = Failure(
            stage="reset" if call.turn is None else "step",
            type=type(cause).__name__,
            message=str(error),
            turn=call.turn,
            attempts=running.attempts,
        )
        status = Status.SANDBOX_ERROR if isinstance(error, SandboxError) else Status.ENV_ERROR
        self._finish(running, running.finish(StopReason.ERROR, status=status, failure=failure))

    def _finish(self, running: Running, episode: Episode) -> None:
        self._drop(running)
        self.done[running.play.id] = episode
        self.on_episode(episode)

    def _drop(self, running: Running) -> None:
        del self.running[running.play.id]
        close(running)
        self.players.policies[running.play.author].release(running.play.id)

    def _abandon(self) -> None:
        """The call ends without its episodes: every environment is closed, and the policies forget what they were asked."""
        self.calls.abandon()
        for running in self.running.values():
            close(running)
        for running in self.running.values():
            self.players.policies[running.play.author].release(running.play.id)


def _stop_reason(terminated: bool, truncated: bool, info: Mapping[str, Any]) -> StopReason | None:
    if terminated:
        return StopReason.COMPLETED
    if truncated:
        stop = info.get("stop")
        return stop if isinstance(stop, StopReason) else StopReason.MAX_TURNS
    return None
