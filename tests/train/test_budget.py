"""A run that ends with its tokens, is measured by them, and learns from a fixed set of demonstrations that was made once."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.ci

CURVE = ("eval.every=0", "eval.every_tokens=400", "eval.progress_samples=2", "eval.samples=4", "eval.seed=9", "eval.progress_tasks=4")


def spent(run):
    return [row["tokens/training/total"] for row in run.metrics() if row["kind"] == "train"]


def test_the_run_ends_at_the_first_step_that_reaches_its_budget(small):
    run = small.train("a", "steps=50", "budget=900", *CURVE)
    summary, totals = run.summary(), spent(run)
    assert totals[-1] >= 900 > totals[-2]
    assert summary["training_tokens"] == totals[-1] == summary["student_tokens"]
    assert (summary["steps"], summary["stopped_by"]) == (len(totals), "budget")
    assert (run.checkpoints / str(len(totals))).is_dir(), "the last step is saved"
    short = small.train("b", "steps=1", "budget=900", *CURVE)
    assert (short.summary()["steps"], short.summary()["stopped_by"]) == (1, "steps")


def test_measurements_come_with_tokens_and_once_more_at_the_end(small):
    run = small.train("a", "steps=50", "budget=900", *CURVE)
    totals = [0, *spent(run)]
    due = [step for step in range(1, len(totals)) if totals[step] // 400 > totals[step - 1] // 400 or step == len(totals) - 1]
    rows = [row for row in run.metrics() if row["kind"] == "eval"]
    assert [row["step"] for row in rows] == [0, *due]
    assert all({"eval/success/greedy", "eval/success/sampled"} <= row.keys() for row in rows)
    assert len(run.episodes.heads(kind="progress-sampled", step=0)) == 4 * 2
    assert len(run.episodes.heads(kind="after-sampled")) == 8 * 4


def test_held_out_plays_have_the_draws_of_their_own_seed(small):
    """Other training seeds and other steps, but the same student: equal plays, to the token."""
    one, other = (small.train(name, "steps=1", f"seed={seed}", *CURVE) for name, seed in (("a", 1), ("b", 2)))

    def played(run, step):
        heads = sorted(run.episodes.heads(kind="progress-sampled", step=step), key=lambda head: head["id"])
        episodes = [run.episodes.episode(head["id"]) for head in heads]
        return [(each.task.id, each.seed, [turn.completion.token_ids for turn in each.turns]) for each in episodes]

    assert played(one, 0) == played(other, 0)
    assert [each[:2] for each in played(one, 0)] == [each[:2] for each in played(one, 1)]
    plain = small.train("c", "steps=1", "seed=1", *CURVE[:3], "eval.progress_tasks=4")
    assert [each[1] for each in played(plain, 0)] != [each[1] for each in played(one, 0)]


def demonstrations(run):
    """Of each step: (task, tokens) of its episodes."""
    found = {}
    for head in run.episodes.heads(kind="train"):
        episode = run.episodes.episode(head["id"])
        tokens = tuple(turn.completion.token_ids for turn in episode.turns)
        found.setdefault(head["step"], []).append((episode.task.id, tokens, episode.success))
    return found


def test_fixed_demonstrations_are_made_once_and_gone_through_in_order(small, monkeypatch):
    made = []
    from agentdistill.train import parts as module

    real = module.play

    def counted(plays, players):
        made.extend(each.id for each in plays if each.author == "teacher")
        return real(plays, players)

    monkeypatch.setattr(module, "play", counted)
    run = small.train("a", "method=sft_64", "method.sampler.demonstrations=12", "steps=3")
    steps = demonstrations(run)
    played = [each for step in sorted(steps) for each in steps[step]]
    assert len(made) == len(set(made)) == 12
    assert len(played) == 24
    assert played[:12] == played[12:], "the second time round they are the same episodes"
    assert len({task for task, _, _ in played[:12]}) == 12
    summary = run.summary()
    once = sum(len(tokens) for _, turns, _ in played[:12] for tokens in turns)
    right = sum(len(tokens) for _, turns, success in played for tokens in turns if success)
    assert summary["teacher_tokens"] == once, "sampled once"
    assert summary["training_tokens"] == right, "trained on twice, and the failed ones never"
    assert summary["student_tokens"] == 0


def test_a_run_on_fixed_demonstrations_resumes_with_the_same_ones(small):
    words = ("method=sft_64", "method.sampler.demonstrations=12", "steps=4", "budget=100000")
    whole = small.train("whole", *words)
    small.train("broken", *words, stop_after=2)
    resumed = small.train("broken", "resume=true")
    assert demonstrations(resumed) == demonstrations(whole)
    assert resumed.metrics() == whole.metrics()
    kept = ("training_tokens", "teacher_tokens", "stopped_by", "success_after")
    assert {key: resumed.summary()[key] for key in kept} == {key: whole.summary()[key] for key in kept}


def test_students_and_two_kinds_of_demonstrators_share_a_step(small):
    run = small.train(
        "a", "method=gkd", "method.sampler={student: 0.4, teacher: 0.3, expert: 0.3, demonstrations: 3}", "steps=2", "rollout.batch=16"
    )
    authors = {}
    for head in run.episodes.heads(kind="train"):
        episode = run.episodes.episode(head["id"])
        tokens = tuple(turn.completion.token_ids for turn in episode.turns)
        authors.setdefault(episode.turns[0].author, set()).add((episode.task.id, tokens))
    assert authors.keys() == {"student", "teacher", "expert"}
    assert len(authors["teacher"]) <= 3
    assert len(authors["expert"]) <= 3
    assert len(authors["student"]) > 3


def test_the_estimate_of_steps_follows_the_budget(small, monkeypatch):
    views = []
    from agentdistill.train import record as module

    real = module.StepView
    monkeypatch.setattr(module, "StepView", lambda **fields: views.append(fields) or real(**fields))
    run = small.train("a", "steps=500", "budget=900", "eval.every=0")
    assert all(view["steps"] < 50 for view in views)
    assert views[-1]["steps"] == views[-1]["step"] == run.summary()["steps"]
