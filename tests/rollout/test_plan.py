"""Who plays what: a function of seed, kind, step and position, and of nothing else."""

from __future__ import annotations

import pytest

from agentdistill.rollout import plan

from .toys import tasks


def test_siblings_stand_together_and_share_task_and_group_but_no_chance() -> None:
    plays = plan(tasks(3), seed=1, kind="train", step=4, group_size=2)
    assert [each.id for each in plays] == [f"train-4-{task}-{sibling}" for task in range(3) for sibling in range(2)]
    assert [each.group for each in plays] == [f"train-4-{task}" for task in range(3) for _ in range(2)]
    assert [each.task.id for each in plays] == ["t0", "t0", "t1", "t1", "t2", "t2"]
    assert len({each.seed for each in plays}) == len({each.key for each in plays}) == 6
    assert {each.author for each in plays} == {"student"}


def test_equal_arguments_give_equal_plans() -> None:
    assert plan(tasks(4), seed=3, kind="train", step=2, group_size=2) == plan(tasks(4), seed=3, kind="train", step=2, group_size=2)


@pytest.mark.parametrize("other", [{"seed": 1}, {"kind": "eval"}, {"step": 1}])
def test_another_seed_purpose_or_step_shares_no_chance(other: dict[str, object]) -> None:
    usual = {"seed": 0, "kind": "train", "step": 0}
    one, two = plan(tasks(20), **usual), plan(tasks(20), **(usual | other))  # type: ignore[arg-type]
    assert not {each.seed for each in one} & {each.seed for each in two}
    assert not {each.key for each in one} & {each.key for each in two}


def test_a_play_depends_on_its_place_and_not_on_how_many_there_are() -> None:
    few, many = (plan(tasks(count), seed=0, kind="train", step=0, group_size=size) for count, size in ((2, 2), (5, 3)))
    assert {each.id: each for each in few}.items() <= {each.id: each for each in many}.items()


def test_shares_say_how_many_tasks_each_author_gets_and_siblings_have_one_author() -> None:
    plays = plan(tasks(400), seed=0, kind="train", step=0, group_size=2, shares={"student": 0.75, "expert": 0.25, "teacher": 0.0})
    by_group: dict[str, set[str]] = {}
    for each in plays:
        by_group.setdefault(each.group, set()).add(each.author)
    assert all(len(authors) == 1 for authors in by_group.values())
    count = sum(authors == {"expert"} for authors in by_group.values())
    assert 70 <= count <= 130
    assert {"teacher"} not in by_group.values()


def test_shares_need_not_sum_to_one() -> None:
    assert {each.author for each in plan(tasks(5), seed=0, kind="x", step=0, shares={"expert": 7.0})} == {"expert"}


def test_who_plays_does_not_change_what_chance_is_drawn() -> None:
    alone = plan(tasks(20), seed=0, kind="train", step=0)
    mixed = plan(tasks(20), seed=0, kind="train", step=0, shares={"student": 0.5, "expert": 0.5})
    assert [(each.seed, each.key) for each in alone] == [(each.seed, each.key) for each in mixed]
    assert {each.author for each in mixed} == {"student", "expert"}
