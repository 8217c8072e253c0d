"""Credit: the record becomes streams, and every token gets exactly the mask, weight and advantage that the terms say."""

from __future__ import annotations

import numpy as np
import pytest

from agentdistill.config.schedule import Linear
from agentdistill.config.schema import DivergenceTerm, KLTerm, PolicyGradientTerm, SupervisedTerm
from agentdistill.credit import assign, group_advantages, rows
from agentdistill.errors import AlignmentError
from agentdistill.types import (
    NO_AUTHOR,
    AuthorSpan,
    Completion,
    Episode,
    EpisodeGroup,
    Feedback,
    Message,
    Status,
    StopReason,
    Task,
    Turn,
)

TASK = Task(id="t", env="math", prompt=(Message.user("?"),))


def turn(
    context: int, ids: tuple[int, ...], *, logprobs: tuple[float, ...] | None = None, segment: int = 0, author: str = "student", **rest
):
    completion = Completion(
        message=Message.assistant("x"),
        token_ids=ids,
        logprobs=tuple(-0.5 for _ in ids) if logprobs is None else logprobs,
        policy_version=(3, 4),
        **rest,
    )
    return Turn(context_ids=tuple(range(100, 100 + context)), completion=completion, segment=segment, author=author)


def episode(id: str, *turns: Turn, reward: float = 0.0, status: Status = Status.OK, success: bool | None = None) -> Episode:
    return Episode(
        id=id,
        group="g",
        task=TASK,
        seed=0,
        prompt=TASK.prompt,
        turns=turns,
        stop=StopReason.COMPLETED if status.trainable else StopReason.ERROR,
        status=status,
        reward=reward,
        success=success if success is not None else reward >= 1,
    )


def group(*episodes: Episode) -> list[EpisodeGroup]:
    return [EpisodeGroup(id="g", task=TASK, episodes=episodes)]


def feedback(of: Episode, value: float) -> Feedback:
    return Feedback(
        episode=of.id,
        teacher="t",
        access="white",
        token_logprobs=tuple(tuple(value for _ in each.completion.token_ids) for each in of.turns),
    )


def test_concatenating_the_turns_of_a_segment_is_the_row():
    played = episode("e", turn(3, (1, 2)), turn(2, (3,)))
    (sample,) = rows([played])
    assert sample.token_ids.tolist() == [100, 101, 102, 1, 2, 100, 101, 3]
    assert sample.turn.tolist() == [-1, -1, -1, 0, 0, -1, -1, 1]
    assert sample.author.tolist() == [NO_AUTHOR] * 3 + [0, 0] + [NO_AUTHOR] * 2 + [0]
    assert np.isnan(sample.rollout_logprobs[~sample.sampled]).all()
    assert (sample.rollout_logprobs[sample.sampled] == -0.5).all()
    assert sample.policy_version[sample.sampled].tolist() == [4, 4, 4]


def test_a_history_edit_starts_a_new_sample():
    played = episode("e", turn(3, (1, 2)), turn(4, (3,), segment=1), turn(1, (4,), segment=1))
    first, second = rows([played], {"e": feedback(played, -1.0)})
    assert (first.segment, second.segment) == (0, 1)
    assert second.token_ids.tolist() == [100, 101, 102, 103, 3, 100, 4]
    assert second.turn.tolist() == [-1] * 4 + [1, -1, 2]
    assert second.teacher_logprobs is not None
    assert (second.teacher_logprobs[second.sampled] == -1.0).all()


def test_mixed_play_keeps_each_tokens_author():
    spans = (AuthorSpan(start=1, stop=3, author="teacher"),)
    (sample,) = rows([episode("e", turn(1, (1, 2, 3, 4), authors=spans))])
    assert sample.author.tolist() == [NO_AUTHOR, 0, 1, 1, 0]


def test_an_unreviewed_episode_is_nan_or_none_never_zero():
    reviewed, other = episode("a", turn(1, (1,))), episode("b", turn(1, (2,)))
    first, second = rows([reviewed, other], {"a": feedback(reviewed, -2.0)})
    assert first.teacher_logprobs is not None
    assert np.isnan(first.teacher_logprobs[0])
    assert second.teacher_logprobs is None


def test_feedback_of_another_length_is_refused_naming_both_lengths_and_the_episode():
    played = episode("e17", turn(1, (1, 2)))
    wrong = feedback(played, 0.0).model_copy(update={"token_logprobs": ((0.0,),)})
    with pytest.raises(AlignmentError, match=r"length 1, expected 2, in episode 'e17'"):
        rows([played], {"e17": wrong})


@pytest.mark.parametrize("status", [status for status in Status if not status.trainable])
def test_failed_episodes_leave_rows_baseline_and_count(status):
    good, bad, failed = episode("a", turn(1, (1,)), reward=1), episode("b", turn(1, (2,))), episode("c", turn(1, (3,)), status=status)
    term = {"o": PolicyGradientTerm(outcome=1.0, baseline="group")}
    with_failed = assign(rows([good, bad, failed]), group(good, bad, failed), term, 0)
    without = assign(rows([good, bad]), group(good, bad), term, 0)
    assert [sample.episode for sample in with_failed.samples] == ["a", "b"]
    for one, other in zip(with_failed.samples, without.samples, strict=True):
        assert np.array_equal(one.advantages["o"], other.advantages["o"])
    assert with_failed.metrics == without.metrics


def test_group_advantages_are_centred_and_scaled_as_published():
    returns = [1.0, 0.0, 0.0, 1.0, 1.0]
    centred = np.array(returns) - 0.6
    assert group_advantages(returns, "group") == pytest.approx(centred)
    assert group_advantages(returns, "group_std") == pytest.approx(centred / (np.std(returns, ddof=1) + 1e-6))
    assert group_advantages(returns, "none") == pytest.approx(returns)
    assert group_advantages([0.7], "group_std") == pytest.approx([0.0])
    assert not group_advantages([1.0, 1.0], "group_std").any()
    assert group_advantages([], "group").shape == (0,)


def test_a_flat_group_is_a_metric_and_no_error():
    flat = [episode(str(i), turn(1, (1,)), reward=1) for i in range(3)]
    report = assign(rows(flat), group(*flat), {"o": PolicyGradientTerm(outcome=1.0)}, 0)
    assert report.metrics["credit/groups_without_advantage/share"] == 1.0
    assert not any(sample.advantages["o"].any() for sample in report.samples)


def test_outcome_and_teacher_parts_add_up_to_the_advantage():
    good, bad = episode("a", turn(2, (1, 2)), reward=1), episode("b", turn(2, (3,)))
    term = PolicyGradientTerm(outcome=2.0, teacher=0.5, baseline="group")
    samples = rows([good, bad], {each.id: feedback(each, -0.1) for each in (good, bad)})
    first, second = assign(samples, group(good, bad), {"h": term}, 0).samples
    on = first.masks["h"]
    assert on.tolist() == [False, False, True, True]
    assert first.advantage_parts["outcome"][on] == pytest.approx(2.0 * 0.5)
    assert first.advantage_parts["teacher"][on] == pytest.approx(0.5 * (-0.1 + 0.5))
    assert first.advantages["h"] == pytest.approx(first.advantage_parts["outcome"] + first.advantage_parts["teacher"])
    assert not first.advantages["h"][~on].any()
    assert second.advantage_parts["outcome"][second.masks["h"]] == pytest.approx(-1.0)


def test_the_trainers_own_old_logprobs_win_over_the_rollout_engines():
    played = episode("a", turn(1, (1, 2)))
    (sample,) = rows([played], {"a": feedback(played, -0.1)})
    from dataclasses import replace

    old = np.full(len(sample), -0.3, np.float32)
    (credited,) = assign([replace(sample, old_logprobs=old)], group(played), {"t": PolicyGradientTerm(teacher=1.0)}, 0).samples
    assert credited.advantages["t"][credited.masks["t"]] == pytest.approx(0.2)


def test_teacher_clip_bounds_the_log_ratio_even_at_minus_infinity():
    played = episode("a", turn(1, (1, 2)))
    unlikely = feedback(played, -np.inf)
    (sample,) = assign(rows([played], {"a": unlikely}), group(played), {"t": PolicyGradientTerm(teacher=1.0, teacher_clip=5.0)}, 0).samples
    assert sample.advantages["t"][sample.masks["t"]].tolist() == [-5.0, -5.0]


def test_a_teacher_term_without_review_is_refused_with_the_episode():
    played = episode("e9", turn(1, (1,)))
    with pytest.raises(AlignmentError, match="'e9'"):
        assign(rows([played]), group(played), {"t": PolicyGradientTerm(teacher=1.0)}, 0)


def test_terms_choose_tokens_by_author_and_episodes_by_verdict():
    mine, expert = episode("a", turn(1, (1,))), episode("b", turn(1, (2, 3), author="expert"), reward=1)
    terms = {
        "data": SupervisedTerm(),
        "all": SupervisedTerm(tokens="all"),
        "wrong": SupervisedTerm(tokens="all", episodes="wrong"),
        "right": SupervisedTerm(tokens="all", episodes="right"),
    }
    first, second = assign(rows([mine, expert]), group(mine, expert), terms, 0).samples
    counts = [{name: int(mask.sum()) for name, mask in sample.masks.items()} for sample in (first, second)]
    assert counts == [{"data": 0, "all": 1, "wrong": 1, "right": 0}, {"data": 2, "all": 2, "wrong": 0, "right": 2}]
    assert second.weights["data"].tolist() == [0, 1, 1]


def test_data_episodes_do_not_enter_the_students_baseline():
    mine = [episode("a", turn(1, (1,)), reward=1), episode("b", turn(1, (1,)))]
    expert = episode("x", turn(1, (2,), author="expert"), reward=1)
    report = assign(rows([*mine, expert]), group(*mine, expert), {"o": PolicyGradientTerm(outcome=1.0, baseline="group")}, 0)
    assert [float(sample.advantages["o"].max(initial=-9, where=sample.masks["o"])) for sample in report.samples] == [0.5, -0.5, -9]


def test_coefficients_follow_their_schedule():
    played = episode("a", turn(1, (1,)))
    term = PolicyGradientTerm(teacher=Linear(start=1.0, end=0.0, steps=10))
    samples = rows([played], {"a": feedback(played, 0.0)})
    values = [assign(samples, group(played), {"t": term}, step).samples[0].advantages["t"][-1] for step in (0, 5, 10, 99)]
    assert values == pytest.approx([0.5, 0.25, 0.0, 0.0])


def test_a_sample_of_a_stranger_is_refused():
    played = episode("a", turn(1, (1,)))
    with pytest.raises(AlignmentError, match="'a'"):
        assign(rows([played]), [], {"s": SupervisedTerm()}, 0)


def test_a_turn_without_review_carries_no_term_that_only_hears_the_teacher():
    played = episode("e", turn(3, (1, 2)), turn(2, (3, 4)), reward=1.0)
    told = feedback(played, -0.2).model_copy(update={"token_logprobs": ((float("nan"),) * 2, (-0.2, -0.2))})
    terms = {
        "sampled": PolicyGradientTerm(teacher=1.0),
        "both": PolicyGradientTerm(teacher=1.0, outcome=1.0, baseline="none"),
        "dense": DivergenceTerm(),
        "k2": KLTerm(against="teacher"),
        "reference": KLTerm(against="reference"),
    }
    samples = rows([played], {"e": told}, {"e": (False, True)})
    assert samples[0].reviewed.tolist() == [False] * 7 + [True] * 2
    (sample,) = assign(samples, group(played), terms, 0).samples
    both = [3, 4, 7, 8]
    for name in ("sampled", "dense", "k2"):
        assert np.flatnonzero(sample.masks[name]).tolist() == [7, 8], name
        assert sample.weights[name].tolist() == [0] * 7 + [1, 1]
    for name in ("both", "reference"):
        assert np.flatnonzero(sample.masks[name]).tolist() == both, name
    np.testing.assert_allclose(sample.advantages["both"][both], [1, 1, 1.3, 1.3], rtol=1e-6)
    np.testing.assert_allclose(sample.advantages["sampled"][both], [0, 0, 0.3, 0.3], rtol=1e-6)


def test_an_outcome_that_fades_out_leaves_unreviewed_turns_to_nobody():
    played = episode("e", turn(3, (1, 2)), reward=1.0)
    term = PolicyGradientTerm(teacher=1.0, outcome=Linear(start=1, end=0, steps=2), baseline="none")
    samples = rows([played], {"e": feedback(played, float("nan"))}, {"e": (False,)})
    assert [assign(samples, group(played), {"t": term}, step).samples[0].masks["t"].any() for step in (0, 2)] == [True, False]


def test_reviewed_turns_are_counted():
    with pytest.raises(AlignmentError, match="reviewed turns has length 1, expected 2, in episode 'e'"):
        rows([episode("e", turn(3, (1, 2)), turn(2, (3,)))], None, {"e": (True,)})


def test_weights_of_the_signal_act_after_its_baseline() -> None:
    """A token that is not to be heard has no advantage, not minus the baseline."""
    first, second = episode("a", turn(1, (1, 2, 3))), episode("b", turn(1, (4, 5)))
    told = {each.id: feedback(each, value) for each, value in ((first, -0.1), (second, -0.9))}
    for baseline in ("batch", "batch_std", "group"):
        term = PolicyGradientTerm.model_validate({"teacher": 1, "signal": {"baseline": baseline, "weights": [{"kind": "last_token"}]}})
        for sample in assign(rows([first, second], told), group(first, second), {"t": term}, 0).samples:
            assert sample.advantages["t"][-1] == 0
            assert sample.advantages["t"][1] != 0
            assert sample.masks["t"][-1]


def test_a_weight_by_the_teachers_opinion_is_one_where_there_is_none() -> None:
    played = episode("e", turn(3, (1, 2)), turn(2, (3, 4)), reward=1.0)
    told = feedback(played, -0.2).model_copy(update={"token_logprobs": ((float("nan"),) * 2, (-0.2, -9.0))})
    term = {"o": PolicyGradientTerm.model_validate({"outcome": 1, "baseline": "none", "token_weights": [{"kind": "floor", "floor": -1}]})}
    (sample,) = assign(rows([played], {"e": told}, {"e": (False, True)}), group(played), term, 0).samples
    assert sample.weights["o"][sample.sampled].tolist() == [1, 1, 1, 0]


def test_whitening_over_the_batch_sees_right_and_wrong_also_where_only_one_kind_trains() -> None:
    good, bad = episode("a", turn(1, (1, 2)), reward=1), episode("b", turn(1, (3, 4)))
    term = PolicyGradientTerm(outcome=1.0, baseline="batch_std", episodes="right")
    first, second = assign(rows([good, bad]), group(good, bad), {"o": term}, 0).samples
    assert first.advantages["o"][first.masks["o"]].tolist() == [1, 1]
    assert not second.masks["o"].any()


def test_a_group_is_flat_by_what_it_achieved_and_not_by_its_length() -> None:
    short, long = episode("a", turn(1, (1, 2))), episode("b", turn(1, (3,) * 9))
    term = PolicyGradientTerm.model_validate({"outcome": 1, "flat_groups": "drop", "overlong": {"limit": 9, "buffer": 6}})
    report = assign(rows([short, long]), group(short, long), {"o": term}, 0)
    assert not any(sample.masks["o"].any() for sample in report.samples)
    assert report.metrics["credit/groups_without_advantage/share"] == 1


def test_a_gate_by_the_outcome_hears_it_before_its_coefficient_does() -> None:
    good, bad = episode("a", turn(1, (1, 2)), reward=1), episode("b", turn(1, (3, 4)))
    told = {each.id: feedback(each, -0.1) for each in (good, bad)}
    fading_in = {"kind": "step", "start": 0, "points": {9: 1}}
    term = PolicyGradientTerm.model_validate({"outcome": fading_in, "teacher": 1, "combine": {"mode": "gate", "by": "agreement"}})
    first, second = assign(rows([good, bad], told), group(good, bad), {"o": term}, 0).samples
    assert first.advantages["o"][1:] == pytest.approx([0.4, 0.4])
    assert not second.advantages["o"].any()


def test_terms_with_schedules_are_taken_at_the_step_that_is_given() -> None:
    played = episode("a", turn(1, (1,)))
    term = PolicyGradientTerm.model_validate({"teacher": 1, "signal": {"weights": [{"kind": "last_token", "from_step": 3}]}})
    samples = rows([played], {"a": feedback(played, -0.1)})
    assert [float(assign(samples, group(played), {"t": term}, step).samples[0].advantages["t"][1]) for step in (0, 3)] == [
        pytest.approx(0.4), 0.0,
    ]  # fmt: skip
