"""The student as its own teacher: the same ids behind a told context, against plain forward passes of exactly that."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from agentdistill_envs.math import MathEnv

from agentdistill.credit import rows
from agentdistill.errors import AlignmentError, IncompatibleError, TeacherError
from agentdistill.nano.demonstrations import demonstrate
from agentdistill.policy.hf import HFPolicy
from agentdistill.policy.loading import load_model, load_tokenizer
from agentdistill.render import Renderer
from agentdistill.rollout import Players, plan, play
from agentdistill.store.codec import decode_feedback, encode_feedback
from agentdistill.teacher.logprob import LogprobTeacher
from agentdistill.teacher.privileged import SelfConfig, SelfTeacher
from agentdistill.teacher.protocol import DenseTeacher, PrivilegedTeacher, Teacher
from agentdistill.teacher.views import with_hint
from agentdistill.types import Episode, Feedback, Message, PluginConfig, Views


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(load_tokenizer("nano", env="math", role="teacher"))


@pytest.fixture(scope="module")
def model() -> Any:
    return load_model("nano", env="math", role="teacher", device="cpu")


@pytest.fixture(scope="module")
def episodes(renderer: Renderer) -> list[Episode]:
    """The student's own plays: several turns, tool calls, wrong answers and the feedback on them."""
    config = MathEnv.Config(name="math")
    student = HFPolicy(load_model("nano", env="math", role="student", device="cpu"), renderer, name="student")
    players = Players(make_env=lambda: MathEnv(config), policies={"student": student}, renderer=renderer)
    return play(plan(list(MathEnv.load_tasks(config, "val").take(8)), seed=3, kind="t", step=0), players)


def teacher_of(model: Any, renderer: Renderer, view: Any, **settings: Any) -> SelfTeacher:
    return SelfTeacher(LogprobTeacher(model, vocab_size=renderer.vocab_size, batch_tokens=600, **settings), renderer, view=view)


def told_by_hand(model: Any, renderer: Renderer, episode: Episode, turn: int, view: str) -> torch.Tensor | None:
    """[tokens, V]: log-probabilities at a turn's completion, rendered and run by itself."""
    views = episode.turns[turn].views
    text = getattr(views, view) if views is not None else None
    if text is None:
        return None
    ids = list(renderer.start(with_hint(episode.prompt, text), episode.tools).context())
    for index, each in enumerate(episode.turns[: turn + 1]):
        ids += (each.context_ids if index else ()) + each.completion.token_ids
    size = len(episode.turns[turn].completion.token_ids)
    with torch.no_grad():
        return torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0, -size - 1 : -1].float(), -1)


@pytest.mark.parametrize("view", ["answer", "hint", "feedback"])
def test_every_turn_is_scored_behind_its_own_view_and_a_turn_without_one_not_at_all(
    model: Any, renderer: Renderer, episodes: list[Episode], view: str
) -> None:
    teacher = teacher_of(model, renderer, view)
    assert isinstance(teacher, Teacher)
    assert isinstance(teacher, DenseTeacher)
    assert isinstance(teacher, PrivilegedTeacher)
    reviewed = teacher.prepare(episodes)
    samples = rows(episodes, None, reviewed)
    where = [np.flatnonzero(sample.reviewed & sample.sampled).tolist() for sample in samples]
    target = teacher.dense(samples, where)
    dense = target.log_probs(0, len(target))
    begin = missing = 0
    for episode, feedback in zip(episodes, teacher.review(episodes), strict=True):
        feedback.check(episode)
        assert (feedback.view, feedback.access, feedback.teacher) == (view, "self", "self")
        for index, values in enumerate(feedback.token_logprobs or ()):
            wanted = told_by_hand(model, renderer, episode, index, view)
            assert reviewed[episode.id][index] == (wanted is not None)
            if wanted is None:
                missing += 1
                assert all(map(math.isnan, values))
                continue
            ids = episode.turns[index].completion.token_ids
            assert values == pytest.approx(wanted.gather(1, torch.tensor(ids)[:, None])[:, 0].tolist(), abs=2e-4)
            torch.testing.assert_close(dense[begin : begin + len(ids)], wanted, atol=2e-4, rtol=0)
            begin += len(ids)
    assert begin == len(dense) == sum(map(len, where)) > 50
    assert (missing > 0) == (view == "feedback")
    assert any(len(episode.turns) > 2 and episode.turns[0].completion.message.tool_calls for episode in episodes)


def test_told_nothing_it_is_the_plain_teacher(model: Any, renderer: Renderer, episodes: list[Episode]) -> None:
    plain = LogprobTeacher(model, vocab_size=renderer.vocab_size, batch_tokens=600)
    teacher = teacher_of(model, renderer, "none")
    for ours, theirs in zip(teacher.review(episodes), plain.review(episodes), strict=True):
        assert ours.token_logprobs == theirs.token_logprobs
        assert ours.view == "same"
        assert ours.cost.tokens == theirs.cost.tokens
    samples = rows(episodes, None, teacher.prepare(episodes))
    where = [np.flatnonzero(sample.sampled).tolist() for sample in samples]
    assert torch.equal(teacher.dense(samples, where).log_probs(0, 9), plain.dense(samples, where).log_probs(0, 9))


def test_right_plays_are_likelier_for_who_is_told_the_answer(renderer: Renderer) -> None:
    """The shipped student has bad habits, which its training let go of where the prompt gave a hint."""
    student = load_model("nano", env="math", role="student", device="cpu")
    tasks = list(MathEnv.load_tasks(MathEnv.Config(name="math"), "val").take(12))
    right = list(demonstrate(MathEnv, MathEnv.Config(name="math"), renderer, tasks, seed=0))
    means = {view: mean(teacher_of(student, renderer, view).review(right)) for view in ("answer", "none")}
    assert means["answer"] > means["none"] + 0.05, means
    assert mean(teacher_of(student, renderer, "answer").review([misled(episode, "7") for episode in right])) != means["answer"]


def mean(feedback: list[Feedback]) -> float:
    """Log-probability of a token."""
    return float(np.mean([value for each in feedback for turn in each.token_logprobs or () for value in turn]))


def misled(episode: Episode, answer: str) -> Episode:
    turns = [turn.model_copy(update={"views": Views(answer=answer)}) for turn in episode.turns]
    return episode.model_copy(update={"turns": tuple(turns)})


def test_positions_may_be_asked_in_any_order(model: Any, renderer: Renderer, episodes: list[Episode]) -> None:
    teacher = teacher_of(model, renderer, "hint")
    samples = rows(episodes[:2], None, teacher.prepare(episodes[:2]))
    places = [np.flatnonzero(sample.sampled).tolist() for sample in samples]
    ahead = teacher.dense(samples, places)
    back = teacher.dense(samples[::-1], [row[::-1] for row in places[::-1]])
    forward = ahead.log_probs(0, len(ahead))
    torch.testing.assert_close(back.log_probs(0, len(back)), forward.flip(0), atol=2e-5, rtol=0)


def test_a_rewritten_history_is_told_in_its_new_beginning(model: Any, renderer: Renderer, episodes: list[Episode]) -> None:
    """A second segment, whose context holds the whole conversation again."""
    played = next(episode for episode in episodes if len(episode.turns) > 2)
    before = [*played.prompt, *(m for turn in played.turns[:2] for m in (turn.completion.message, *turn.reply))]
    again = renderer.start(before, played.tools).context()
    rewritten = played.turns[2].model_copy(update={"segment": 1, "context_ids": again})
    later = [turn.model_copy(update={"segment": 1}) for turn in played.turns[3:]]
    episode = played.model_copy(update={"turns": (*played.turns[:2], rewritten, *later)})
    teacher = teacher_of(model, renderer, "answer")
    found = teacher.review([episode])[0].token_logprobs
    assert found is not None
    ids = [*renderer.start(with_hint(before, str(played.task.answer)), played.tools).context(), *rewritten.completion.token_ids]
    with torch.no_grad():
        after = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0].float(), -1)
    size = len(rewritten.completion.token_ids)
    wanted = [float(after[len(ids) - size + j - 1, token]) for j, token in enumerate(rewritten.completion.token_ids)]
    assert found[2] == pytest.approx(wanted, abs=2e-4)


def test_what_no_longer_fits_once_told_is_not_reviewed(renderer: Renderer, episodes: list[Episode]) -> None:
    short = load_model("nano", env="math", role="teacher", device="cpu")
    played = max(episodes, key=lambda episode: episode.tokens)
    short.config.max_position_embeddings = played.tokens
    with pytest.warns(RuntimeWarning, match=f"'self' reads {played.tokens} positions: turns that do not fit them once they are told"):
        reviewed = teacher_of(short, renderer, "answer").prepare([played])
    assert reviewed[played.id] == (*(True,) * (len(played.turns) - 1), False)
    short.config.max_position_embeddings = 8
    with pytest.warns(RuntimeWarning, match="so none is reviewed"), pytest.warns(RuntimeWarning, match="reads 8 positions"):
        assert teacher_of(short, renderer, "answer").prepare([played]) == {played.id: (False,) * len(played.turns)}


def test_a_view_that_nobody_tells_is_noticed_and_the_ones_that_there_are_are_named(
    model: Any, renderer: Renderer, episodes: list[Episode]
) -> None:
    only = [misled(episode, "7") for episode in episodes]
    with pytest.warns(RuntimeWarning, match=r"to be told 'hint', and no turn of 8 episodes says it.*environment tells: answer \(teacher"):
        feedback = teacher_of(model, renderer, "hint").review(only)
    assert all(math.isnan(value) for each in feedback for turn in each.token_logprobs or () for value in turn)
    bare = [e.model_copy(update={"turns": tuple(t.model_copy(update={"views": None}) for t in e.turns)}) for e in episodes]
    with pytest.warns(RuntimeWarning, match="environment tells: nothing"):
        teacher_of(model, renderer, "answer").prepare(bare)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert teacher_of(model, renderer, "answer").prepare([]) == {}


def test_a_review_with_gaps_is_stored_and_read_back(model: Any, renderer: Renderer, episodes: list[Episode]) -> None:
    feedback = teacher_of(model, renderer, "feedback").review(episodes[:1])[0]
    again = decode_feedback(*encode_feedback(feedback))
    np.testing.assert_array_equal(np.concatenate(again.token_logprobs), np.concatenate(feedback.token_logprobs).astype(np.float32))
    assert np.isnan(np.concatenate(again.token_logprobs)).any()
    assert again.key == (episodes[0].id, "self", "", "feedback")


def test_misalignments_name_both_lengths_and_the_episode(model: Any, renderer: Renderer, episodes: list[Episode]) -> None:
    teacher = teacher_of(model, renderer, "answer")
    episode = episodes[0]
    (sample,) = rows([episode], None, teacher.prepare([episode]))
    longer = episode.model_copy(update={"turns": (episode.turns[0].model_copy(update={"context_ids": (5, 6, 7)}), *episode.turns[1:])})
    with pytest.raises(
        AlignmentError, match=rf"turn 0 of episode '{episode.id}' has 3 tokens .* renders {len(episode.turns[0].context_ids)} other"
    ):
        teacher.review([longer])
    teacher.prepare([episode])
    cut = rows([longer])[0]
    with pytest.raises(AlignmentError, match=rf"sample has length {len(cut)}, expected {len(sample)}, in episode '{episode.id}'"):
        teacher.dense([cut], [[len(cut) - 1]])
    with pytest.raises(AlignmentError, match=rf"position 1 of {len(sample)} in episode '{episode.id}' belongs to its context"):
        teacher.dense([sample], [[1]])
    with pytest.raises(AlignmentError, match=r"2 lists of positions for 1 samples"):
        teacher.dense([sample], [[], []])
    with pytest.raises(AlignmentError, match=r"'self' was not told of episode .*; prepare\(\) comes before dense\(\)"):
        teacher_of(model, renderer, "answer").dense([sample], [[]])
    picky = teacher_of(model, renderer, "feedback")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (sample,) = rows([episode], None, picky.prepare([episode]))
    first = int(np.flatnonzero(sample.sampled)[0])
    with pytest.raises(AlignmentError, match=f"position {first} of {len(sample)} .* belongs to turn 0, which is not reviewed"):
        picky.dense([sample], [[first]])


def test_where_nobody_asked_there_is_nowhere_to_tell(model: Any, renderer: Renderer, episodes: list[Episode]) -> None:
    prompt = (Message.system("Compute."),)
    opening = renderer.start(prompt, episodes[0].tools).context()
    first = episodes[0].turns[0].model_copy(update={"context_ids": opening})
    mute = episodes[0].model_copy(update={"prompt": prompt, "turns": (first,)})
    with pytest.raises(TeacherError, match=rf"cannot tell episode '{mute.id}' its answer: a hint goes after the first user message"):
        teacher_of(model, renderer, "answer").prepare([mute])


def test_lent_weights_are_used_only_inside_the_loan_and_left_as_they_are(renderer: Renderer, episodes: list[Episode]) -> None:
    model = load_model("nano", env="math", role="student", device="cpu").requires_grad_(True)
    inside = []
    forward = model.base_model.forward

    def watched(*args: Any, **kwargs: Any) -> Any:
        assert inside
        return forward(*args, **kwargs)

    model.base_model.forward = watched

    @contextmanager
    def lend() -> Iterator[Any]:
        inside.append(1)
        yield model
        inside.pop()

    teacher = SelfTeacher.of(SelfConfig(name="self", view="answer"), renderer, lend, version="nano", chunk_tokens=64, batch_tokens=512)
    assert teacher.review(episodes[:2])[1].teacher_version == "nano"
    assert all(parameter.requires_grad for parameter in model.parameters())
    model.base_model.forward = forward
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight[:1000])
    with pytest.raises(IncompatibleError, match=f"1000 tokens and the student's vocabulary has {renderer.vocab_size}"):
        SelfTeacher.of(PluginConfig(name="self"), renderer, lend, version="", chunk_tokens=64, batch_tokens=512)
