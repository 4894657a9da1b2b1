"""Canonicalization: one text for each orbit, and the way back."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import AXES, VOCAB, random_ids
from transformers import DynamicCache

from equilm import EquiLMError
from equilm._canonical import Canonicalization, canonical_elements, draw_canonicalization
from equilm._orbit_rows import adopt, all_rows
from equilm.actions import TokenAction

axes = st.sampled_from(sorted(AXES))


def _action(name: str) -> TokenAction:
    return TokenAction.from_cycles(AXES[name], VOCAB)


@given(name=axes, seed=st.integers(0, 10_000))
def test_an_orbit_has_one_canonical_text(name: str, seed: int) -> None:
    action, ids = _action(name), random_ids(3, 5, seed)
    candidates = canonical_elements(action, ids, None)
    canonical = draw_canonicalization(action, candidates, 1, fair_ties=True).act(ids)
    for g in action.group.elements:
        image = action.act(ids, g)
        found = canonical_elements(action, image, None)
        assert torch.equal(draw_canonicalization(action, found, 1, fair_ties=True).act(image), canonical)
    for row, (prompt, flags) in enumerate(zip(ids, candidates, strict=True)):
        orbit = [action.act(prompt, g).tolist() for g in action.group.elements]
        assert canonical[row].tolist() == min(orbit)
        assert flags.tolist() == [text == min(orbit) for text in orbit]


@given(name=axes, seed=st.integers(0, 10_000))
def test_the_inverse_undoes_the_action(name: str, seed: int) -> None:
    action, ids = _action(name), random_ids(4, 5, seed)
    canonicalization = Canonicalization(action, torch.arange(4) % action.group.order)
    logits = torch.randn(4, VOCAB)
    assert torch.equal(canonicalization.inverse.act(canonicalization.act(ids)), ids)
    assert torch.equal(canonicalization.inverse.act_on_logits(canonicalization.act_on_logits(logits)), logits)
    for row, g in enumerate(canonicalization.elements.tolist()):
        assert torch.equal(canonicalization.act(ids)[row], action.act(ids[row], g))
        assert torch.equal(canonicalization.act_on_logits(logits)[row], action.act_on_logits(logits[row], g))


@given(name=axes)
def test_cache_rows_follow_the_text(name: str) -> None:
    action = _action(name)
    order, rows = action.group.order, 4
    canonicalization = Canonicalization(action, torch.arange(rows) % order)
    ids = random_ids(rows, 3)
    # A cache that holds, in row (g, r), the ids of g·ids[r] themselves.
    keys = action.orbit(ids).flatten(0, 1)[:, None, :, None].float()  # (|G|·rows, 1, T, 1)
    cache: Any = DynamicCache()
    cache.update(keys, keys, 0)
    adopt(cache, all_rows(order, rows, keys.device), keys.shape[-2])

    def held() -> torch.Tensor:
        return cache.layers[0].keys[cache.branches, 0, :, 0].long()  # (|G|, rows, T)

    canonicalization.act_on_cache(cache)
    assert torch.equal(held(), action.orbit(canonicalization.act(ids)))
    canonicalization.inverse.act_on_cache(cache)
    assert torch.equal(held(), action.orbit(ids))


def test_a_cache_of_another_model_is_refused() -> None:
    cache: Any = DynamicCache()
    cache.update(torch.zeros(1, 1, 3, 1), torch.zeros(1, 1, 3, 1), 0)
    with pytest.raises(EquiLMError, match="DynamicCache was not filled by this EquiLM"):
        Canonicalization(_action("d2"), torch.tensor([1])).act_on_cache(cache)


def test_masked_words_do_not_count() -> None:
    action = _action("d2")
    ids, mask = torch.tensor([[10, 3], [11, 3]]), torch.tensor([[0, 1], [1, 1]])
    assert canonical_elements(action, ids, mask).tolist() == [[True, True], [False, True]]


def test_draws_are_independent_uniform_and_seeded() -> None:
    action, neutral = _action("d4"), torch.tensor([[3, 4]])
    candidates = canonical_elements(action, neutral, None)
    torch.manual_seed(0)
    draws = draw_canonicalization(action, candidates, 4000, fair_ties=True).elements
    assert (draws.bincount(minlength=4) - 1000).abs().max() < 150  # more than five standard deviations
    torch.manual_seed(0)
    assert torch.equal(draw_canonicalization(action, candidates, 4000, fair_ties=True).elements, draws)


def test_nothing_is_drawn_without_a_tie() -> None:
    action, named = _action("d3"), torch.tensor([[11, 4]])
    state = torch.get_rng_state()
    canonicalization = draw_canonicalization(action, canonical_elements(action, named, None), 2, fair_ties=True)
    assert canonicalization.elements.tolist() == [2, 2] and torch.equal(torch.get_rng_state(), state)
