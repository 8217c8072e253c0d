"""A model's cache by whichever name transformers has for it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tiny_models import build

from agentdistill.policy.caches import cache_argument, cache_of


class Renamed:
    def forward(self, input_ids: object, cache: object = None) -> None: ...


class Before:
    def forward(self, input_ids: object, past_key_values: object = None) -> None: ...


class Neither:
    def forward(self, *args: object, **kwargs: object) -> None: ...


class Wrapped(Neither):
    def get_base_model(self) -> object:
        return Renamed()


@pytest.mark.parametrize(("model", "name"), [(Renamed(), "cache"), (Before(), "past_key_values"), (Wrapped(), "cache")])
def test_the_name_is_the_one_that_forward_has(model: object, name: str) -> None:
    assert cache_argument(model) == name  # type: ignore[arg-type]


def test_where_forward_does_not_say_it_is_that_of_the_installed_version() -> None:
    assert cache_argument(Neither()) == cache_argument(build("llama"))  # type: ignore[arg-type]


def test_a_cache_is_found_under_either_name_and_a_recurrent_state_is_none() -> None:
    held = object()
    assert cache_of(Renamed(), SimpleNamespace(cache=held)) is held  # type: ignore[arg-type]
    assert cache_of(Before(), SimpleNamespace(past_key_values=held)) is held  # type: ignore[arg-type]
    assert cache_of(Before(), SimpleNamespace()) is None  # type: ignore[arg-type]
    assert cache_of(SimpleNamespace(_is_stateful=True), SimpleNamespace(cache=held)) is None  # type: ignore[arg-type]


def test_a_real_model_takes_its_cache_back_under_that_name() -> None:
    model = build("llama").eval()
    ids = torch.arange(6)[None]
    with torch.no_grad():
        whole = model(input_ids=ids, use_cache=False).logits[:, -1]
        cache = cache_of(model, model(input_ids=ids[:, :4], use_cache=True))
        assert cache is not None
        rest = model(input_ids=ids[:, 4:], use_cache=True, **{cache_argument(model): cache}).logits[:, -1]
    assert torch.allclose(whole, rest, atol=1e-5)
