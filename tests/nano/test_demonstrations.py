"""Demonstrations: who plays, and what of it is learned."""

from __future__ import annotations

import numpy as np
import pytest
from agentdistill_envs.tools import ToolsConfig, ToolsEnv
from agentdistill_envs.tools.catalogue import REASONS
from agentdistill_envs.tools.sample import CITIES, ITEMS, NAMES
from transformers import AutoTokenizer

from agentdistill.nano.demonstrations import demonstrate, right_moves
from agentdistill.nano.fit import draw
from agentdistill.nano.recipe import SHOP_WORDS, Training
from agentdistill.nano.tokenizer import DIGITS, train_tokenizer
from agentdistill.render import Renderer
from agentdistill.resources import nano_dir
from agentdistill.types import Sample

CONFIG = ToolsConfig(horizon=(4, 8))


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(AutoTokenizer.from_pretrained(nano_dir("math", "teacher")))


def test_of_a_player_that_slips_only_the_right_moves_are_learned(renderer: Renderer) -> None:
    tasks = list(ToolsEnv.load_tasks(CONFIG, "val").take(24))
    episodes = list(demonstrate(ToolsEnv, CONFIG, renderer, tasks, seed=0, flaws={"skip_look": 0.3, "miscopy": 0.2}))
    rows = {sample.episode: sample for sample in right_moves(episodes)}
    wrong = 0
    for episode in episodes:
        learned = set(rows[episode.id].turn[rows[episode.id].sampled].tolist())
        for index, turn in enumerate(episode.turns):
            assert turn.views is not None
            expert = turn.views.expert_action
            assert expert is not None
            same = (turn.completion.message.content, turn.completion.message.tool_calls) == (expert.content, expert.tool_calls)
            assert (index in learned) == same
            wrong += not same
    assert wrong > 20
    after_a_mistake = [
        index
        for episode in episodes
        for index in set(rows[episode.id].turn.tolist()) - {-1}
        if index and any(call_failed(reply.content) for reply in episode.turns[index - 1].reply)
    ]
    assert len(after_a_mistake) > 10


def call_failed(reply: str) -> bool:
    return reply.startswith("Error:")


def test_an_episode_without_a_right_move_gives_no_row(renderer: Renderer) -> None:
    tasks = list(ToolsEnv.load_tasks(CONFIG, "val").take(12))
    episodes = list(demonstrate(ToolsEnv, CONFIG, renderer, tasks, seed=0, flaws={"miscopy": 1.0, "skip_look": 1.0}))
    learned = {sample.episode for sample in right_moves(episodes)}
    assert all(sample.sampled.any() for sample in right_moves(episodes))
    assert learned <= {episode.id for episode in episodes}


def test_kinds_are_drawn_in_the_recipes_shares() -> None:
    def row(name: str) -> Sample:
        ids = np.zeros(1, np.int32)
        return Sample(
            episode=name,
            token_ids=ids,
            author=np.zeros(1, np.uint8),
            turn=ids,
            policy_version=ids,
            rollout_logprobs=np.zeros(1, np.float32),
        )

    kinds = {kind: [row(kind)] for kind in ("expert", "flawed", "mended", "told")}
    training = Training(steps=100, batch=4000, expert=0.5, flawed_tail=0.2, mended=0.3, told=0.1)
    for step, shares in ((0, (0.3, 0.3, 0.3, 0.1)), (90, (0.0, 0.6, 0.3, 0.1))):
        drawn = [sample.episode for sample in draw(kinds, training, step, np.random.default_rng(0))]
        for kind, share in zip(kinds, shares, strict=True):
            assert abs(drawn.count(kind) / len(drawn) - share) < 0.03


def test_the_recipe_of_the_shop_has_the_words_of_the_shop() -> None:
    assert {*NAMES, *ITEMS, *CITIES, *REASONS} < set(SHOP_WORDS)


def test_what_stays_single_is_the_recipes_to_say() -> None:
    text = '{"name": "find_user", "arguments": {"name": "u17"}}'
    free = train_tokenizer([text] * 50, vocab_size=400, single=DIGITS)
    assert len(free.encode(text)) == 4
    assert [free.decode([id]) for id in free.encode("17")] == ["1", "7"]
    bound = train_tokenizer([text] * 50, vocab_size=400)
    assert {"{", "}"} <= {bound.decode([id]) for id in bound.encode(text)}
