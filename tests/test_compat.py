"""The cache has two names: either works, with every version of transformers that the package takes."""

import copy
import warnings
from typing import Any

import pytest
import torch
from models import AXES, random_ids, tiny_model, wrap
from seq2seq_models import tiny_seq2seq, wrap_seq2seq
from transformers import DynamicCache

from equilm import EquiLMError
from equilm._compat import CACHE, SPELLINGS, cache_argument, cache_of


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("seed", range(7))
def test_greedy_text_is_that_of_the_whole_text_run_anew(seed: int, batch: int) -> None:
    model = wrap(tiny_model("llama"), AXES["d3"])
    ids = random_ids(batch, 7, seed)
    text: Any = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, eos_token_id=None)
    for end in range(7, 13):
        with torch.no_grad():
            best = model(input_ids=text[:, :end]).logits[:, -1].topk(2)
        chosen = text[:, end, None]
        clear = best.values[:, 0] - best.values[:, 1] > 1e-4
        assert ((best.indices == chosen).any(1) & ((best.indices[:, :1] == chosen)[:, 0] | ~clear)).all()


@pytest.mark.parametrize("name", SPELLINGS[:2])
def test_forward_and_generate_take_the_cache_under_either_name_without_a_warning(name: str) -> None:
    model: Any = wrap(tiny_model("llama"))
    ids = random_ids(2, 9)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error")
        whole = model(input_ids=ids, use_cache=False).logits
        cache = DynamicCache()
        steps = [model(input_ids=ids[:, t : t + 1], **{name: cache}).logits for t in range(9)]
        torch.testing.assert_close(torch.cat(steps, 1), whole, atol=1e-5, rtol=0)
        assert cache.get_seq_length() == 9
        cache.crop(-1)
        mask = torch.ones_like(ids)
        continued = model.generate(ids, attention_mask=mask, max_new_tokens=3, **{name: copy.deepcopy(cache)})
        assert torch.equal(continued, model.generate(ids, attention_mask=mask, max_new_tokens=3))


@pytest.mark.parametrize("name", SPELLINGS[:2])
def test_an_encoder_decoder_takes_the_cache_under_either_name(name: str) -> None:
    model, ids = wrap_seq2seq(tiny_seq2seq("t5")), random_ids(2, 6)
    start = torch.tensor([[0, 10], [0, 30]])
    with torch.no_grad():
        first = model(input_ids=ids, decoder_input_ids=start[:, :1], use_cache=True)
        step = model(input_ids=ids, decoder_input_ids=start[:, 1:], **{name: cache_of(first)})
        whole = model(input_ids=ids, decoder_input_ids=start)
    torch.testing.assert_close(step.logits, whole.logits[:, 1:], atol=1e-5, rtol=0)


def test_two_caches_are_refused() -> None:
    model, ids = wrap(tiny_model("llama")), random_ids(1, 3)
    with pytest.raises(EquiLMError, match="given twice, as cache and as past_key_values"):
        model(input_ids=ids, cache=DynamicCache(), past_key_values=DynamicCache())
    with pytest.raises(EquiLMError, match="given twice"):
        model.generate(ids, cache=DynamicCache(), past_key_values=DynamicCache())
    with pytest.raises(EquiLMError, match="is a list; pass a Cache"):
        model(input_ids=ids, cache=[])


def test_the_name_is_the_one_the_base_model_uses() -> None:
    assert cache_argument(tiny_model("llama")) == CACHE
