"""The player loop: many episodes at once over few policies, with blocking environments beside it.

    waiting ──start──> reset ─┐                      ┌──> step (executor) ──┐
                              ├──> policy.submit ──advance                  ├──> Episode
                              └──<──────────────────── next turn ───<───────┘

An environment that raises costs its episode only: it is tried again from the start, in a fresh environment, and after the last
try it is recorded as ``env_error`` (or ``sandbox_error``), which never trains. A policy that fails ends the call: the engine is gone.

Every environment that was made is closed, however the call ends. One whose call hangs is closed at once, which may free the call, and
again when the call comes back.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from agentdistill.clock import SYSTEM_CLOCK, Clock, Executor, InlineExecutor
from agentdistill.env import AgentEnv
from agentdistill.errors import EnvError, PolicyError, SandboxError, boundary, unknown
from agentdistill.policy.protocol import Policy
from agentdistill.render import Renderer
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
    """Seconds that one call of an environment may take once a thread has begun it, where the executor has threads; also how long nothing
    at all may begin or come back before calls that wait for a thread are given up. ``None``: no deadline."""
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


@dataclass(eq=False)
class _Call:
    """A call into an environment that is under way."""

    running: Running
    completion: Completion | None
    """What ``step`` was given. ``None``: the call is ``reset``."""
    turn: int | None
    """Turn index; ``None`` for ``reset``."""
    submitted: float
    began: float | None = None
    """Clock reading when a thread took it up. ``None``: it waits for one."""
    ended: float = 0.0


class _Loop:
    def __init__(self, players: Players, on_episode: Callable[[Episode], None]) -> None:
        self.players = players
        self.on_episode = on_episode
        self.running: dict[str, Running] = {}
        self.calls: dict[Future[Any], _Call] = {}
        self.moved = 0.0
        """Clock reading when a call last came back or was given up."""
        self.queued: dict[Author, set[str]] = {author: set() for author in players.policies}
        """Episodes whose next turn the policy owes."""
        self.done: dict[str, Episode] = {}

    def run(self, plays: Sequence[Play]) -> dict[str, Episode]:
        waiting = deque(plays)
        try:
            while waiting or self.running:
                while waiting and len(self.running) < self.players.in_flight:
                    self._start(waiting.popleft())
                self._collect_calls(block=not any(self.queued.values()))
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

        self._call(running, reset, None)

    def _call(self, running: Running, work: Callable[[], Any], completion: Completion | None) -> None:
        clock = self.players.clock
        call = _Call(running, completion, turn=None if completion is None else len(running.turns), submitted=clock.now())

        def timed() -> Any:
            call.began = clock.now()
            try:
                return work()
            finally:
                call.ended = clock.now()

        self.calls[self.players.executor.submit(timed)] = call

    def _collect_calls(self, *, block: bool) -> None:
        """Handle every call that is done; with ``block``, wait for one first, because nothing else can move."""
        if not self.calls:
            return
        for future in self.players.executor.wait_any(list(self.calls), self._next_deadline() if block else 0.0):
            self.moved = self.players.clock.now()
            self._returned(self.calls.pop(future), future)
        self._expire()

    def _waits_since(self) -> dict[Future[Any], float]:
        """From when each call's deadline counts. A call that has no thread yet is late only where none gets free."""
        began = {future: call.began for future, call in self.calls.items()}
        moved = max([self.moved, *(when for when in began.values() if when is not None)])
        return {future: max(moved, self.calls[future].submitted) if when is None else when for future, when in began.items()}

    def _next_deadline(self) -> float | None:
        if self.players.call_timeout is None:
            return None
        return max(0.0, min(self._waits_since().values()) + self.players.call_timeout - self.players.clock.now())

    def _expire(self) -> None:
        if (limit := self.players.call_timeout) is None:
            return
        now = self.players.clock.now()
        late = [future for future, since in self._waits_since().items() if now - since >= limit and not future.done()]
        hanging = [future for future in late if self.calls[future].began is not None]
        for future in hanging or late:  # giving up one that hangs may free its thread for one that waits
            call = self.calls.pop(future)
            self.moved = now
            _let_go(future, call.running)
            what = "the environment did not answer" if call.began is not None else "no thread was free for the environment"
            self._failed(call, EnvError(f"{what} within {limit:g} s"))

    def _returned(self, call: _Call, future: Future[Any]) -> None:
        running, completion = call.running, call.completion
        stop = None
        where = "reset" if completion is None else f"step of turn {call.turn}"
        try:
            with boundary(EnvError, where):
                result = _result(future, where)
                if completion is None:
                    running.began(*result)
                else:
                    observation, reward, terminated, truncated, info = result
                    running.said(completion, reply=observation, reward=reward, info=info, env_s=call.ended - (call.began or 0.0))
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
            self._call(running, lambda: env.step(completion.message), completion)

    def _failed(self, call: _Call, error: EnvError | SandboxError) -> None:
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
        _close(running)
        self.players.policies[running.play.author].release(running.play.id)

    def _abandon(self) -> None:
        """The call ends without its episodes: every environment is closed, and the policies forget what they were asked."""
        for future, call in self.calls.items():
            _let_go(future, call.running)
        for running in self.running.values():
            _close(running)
        for running in self.running.values():
            self.players.policies[running.play.author].release(running.play.id)


def _result(future: Future[Any], where: str) -> Any:
    """What the environment returned. Whatever else it raises, one of our own errors included (a bad row, say), is its failure."""
    try:
        return future.result()
    except (EnvError, SandboxError):
        raise
    except Exception as error:
        raise EnvError(f"{where}: {type(error).__name__}: {error}") from error


def _close(running: Running) -> None:
    if running.env is not None:
        try:
            running.env.close()
        except Exception as error:  # the episode's record is complete without it
            warnings.warn(f"closing the environment of episode {running.play.id!r} failed: {error!r}", RuntimeWarning, stacklevel=2)


def _let_go(future: Future[Any], running: Running) -> None:
    """Nobody waits for this call any more. One that has begun may still build or open something: its environment is closed behind it."""
    if not future.cancel():
        future.add_done_callback(lambda _: _close(running))


def _stop_reason(terminated: bool, truncated: bool, info: Mapping[str, Any]) -> StopReason | None:
    if terminated:
        return StopReason.COMPLETED
    if truncated:
        stop = info.get("stop")
        return stop if isinstance(stop, StopReason) else StopReason.MAX_TURNS
    return None
