"""Every kind of cache: recurrent, hybrid, none at all; and caches as objects that are saved, copied and reused."""

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cache_models import cache_model
from models import AXES, random_ids, related, tiny_model, wrap
from torch import Tensor
from transformers import AutoModelForCausalLM, Cache, DynamicCache, PreTrainedModel

from equilm import EquiLMConfig, EquiLMError, EquiLMForCausalLM
from equilm._compat import CACHE, cache_of
from equilm.testing import assert_equivariant

# How each base model's cache may be continued: by several tokens at once, by single ones, or not at all.
CACHE_USES = {
    "jamba": "steps",
    "mamba": "steps",
    "falcon_mamba": "steps",
    "mamba2": "chunks",
    "modernbert-decoder": "chunks",
    "mixtral": "chunks",
    "openai-gpt": "none",
    "rwkv": "none",
    "xlstm": "none",
}
WITH_CACHE = [name for name, use in CACHE_USES.items() if use != "none"]
ALL = [*CACHE_USES, "minimax"]


def wrapped(base: PreTrainedModel, axes: str = "d3") -> Any:
    return EquiLMForCausalLM(EquiLMConfig(text_config=base.config, cycles=AXES[axes]), base).eval()


def prompts(axes: str) -> Tensor:
    """Two texts with a neutral beginning, as long as the model finds worth running once; each then names its axes."""
    ids = random_ids(2, 24, seed=5)
    ids[:, :16] = ids[:, :16].clamp(min=30)
    for place, lists in enumerate(AXES[axes]):
        ids[:, 16 + 2 * place] = torch.tensor(lists[0][:2])
    return ids


def definition(model: Any, ids: Tensor) -> Tensor:
    """The mean over g of the base model's own logits, each g·x alone and without a cache: (B, T, V)."""
    with torch.no_grad():
        rows = [model.language_model(input_ids=row[ids], use_cache=False).logits[..., row] for row in model.permutation]
    return torch.stack(rows).mean(0)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("axes", ["d3", "2x3"])
@pytest.mark.parametrize("name", ALL)
class TestEveryKind:
    def test_forward_is_the_definition(self, name: str, axes: str) -> None:
        model = wrapped(cache_model(name), axes)
        ids = prompts(axes)
        with torch.no_grad():
            close(model(input_ids=ids).logits, definition(model, ids))
        assert_equivariant(model, random_ids(2, 9, seed=int(torch.seed() % 2**31)))

    def test_generate_reads_the_logits_of_the_whole_text(self, name: str, axes: str) -> None:
        model = wrapped(cache_model(name), axes)
        ids = prompts(axes)
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=4,
            do_sample=True,
            output_logits=True,
            return_dict_in_generate=True,
        )
        whole = definition(model, output.sequences)
        close(torch.stack(output.logits, 1), whole[:, 23:-1])

    def test_one_seed_one_text(self, name: str, axes: str) -> None:
        model = wrapped(cache_model(name), axes)
        ids = prompts(axes)[:1]

        def text(prompt: Tensor) -> Tensor:
            torch.manual_seed(3)
            mask = torch.ones_like(prompt)
            result: Tensor = model.generate(prompt, attention_mask=mask, max_new_tokens=5, do_sample=True, top_k=0)
            return result

        for g in model.group.elements:
            assert related(model, ids, text(ids), text(model.action.act(ids, g)), g)


@pytest.mark.parametrize("name", WITH_CACHE)
def test_a_cache_continued_in_chunks_and_steps_gives_the_whole_texts_logits(name: str) -> None:
    model = wrapped(cache_model(name))
    ids = prompts("d3")
    with torch.no_grad():
        step = model(input_ids=ids[:, :15], use_cache=True, logits_to_keep=1)  # neutral: one row for all g
        parts = [step.logits]
        for start, end in ((15, 16), (16, 20), (20, 21), (21, 24)):
            step = model(input_ids=ids[:, start:end], **{CACHE: cache_of(step)}, use_cache=True)
            parts.append(step.logits)
    close(torch.cat(parts, 1), definition(model, ids)[:, 14:])


@pytest.mark.parametrize("name", sorted(CACHE_USES))
def test_how_the_cache_may_be_continued_is_found_out(name: str) -> None:
    model = wrapped(cache_model(name))
    assert model._continues_caches() == CACHE_USES[name]


@pytest.mark.parametrize("name", ["openai-gpt", "rwkv"])
def test_a_filled_cache_is_refused_where_the_base_cannot_continue_one(name: str) -> None:
    model = wrapped(cache_model(name))
    cache = _filled_cache()
    with pytest.raises(EquiLMError, match="does not continue its cache as it reads a whole text"):
        model(input_ids=random_ids(1, 2), **{CACHE: cache})


def _filled_cache() -> Cache:
    llama = wrap(tiny_model("llama"))
    with torch.no_grad():
        return cache_of(llama(input_ids=random_ids(1, 3), use_cache=True))


@pytest.mark.parametrize("name", ["jamba", "mamba", "xlstm", "modernbert-decoder"])
def test_beams(name: str) -> None:
    """Beams reorder the cache: their score is that of the text run anew."""
    model = wrapped(cache_model(name))
    ids = prompts("d3")
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=4,
        num_beams=3,
        do_sample=False,
        output_scores=True,
        return_dict_in_generate=True,
    )
    text = output.sequences
    log_probs = definition(model, text).log_softmax(-1)[:, 23:-1].gather(-1, text[:, 24:, None])
    close(output.sequences_scores, log_probs.sum((1, 2)) / 4)


@pytest.mark.parametrize("name", ["jamba", "modernbert-decoder", "mamba"])
def test_save_and_load(name: str, tmp_path: Path) -> None:
    model = wrapped(cache_model(name))
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(loaded.language_model) is type(model.language_model)
    ids = prompts("d3")
    with torch.no_grad():
        close(loaded(input_ids=ids).logits, model(input_ids=ids).logits)


def _torch_saved(cache: Any) -> Any:
    file = io.BytesIO()
    torch.save(cache, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES: dict[str, Callable[[Any], Any]] = {
    "torch.save": _torch_saved,
    "pickle": lambda cache: pickle.loads(pickle.dumps(cache)),
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("name", ["llama", "jamba", "mamba2"])
def test_a_saved_or_copied_cache_goes_on_by_itself(name: str, way: str) -> None:
    model = wrapped(tiny_model(name) if name == "llama" else cache_model(name))
    ids = prompts("d3")
    with torch.no_grad():
        whole = model(input_ids=ids).logits
        cache = cache_of(model(input_ids=ids[:, :20], use_cache=True))
        copied = COPIES[way](cache)
        assert type(copied) is type(cache)
        for one in (copied, cache):  # the second is as if the first had never gone on
            close(model(input_ids=ids[:, 20:], use_cache=True, **{CACHE: one}).logits, whole[:, 20:])


@pytest.mark.parametrize("name", ["llama", "jamba"])
def test_a_cache_over_the_turns_of_a_chat(name: str) -> None:
    """Each turn adds words of either group to the text; `generate` gives the cache back in the user's words."""
    model = wrapped(tiny_model(name) if name == "llama" else cache_model(name))
    text, cache = prompts("d3")[:, :20], DynamicCache(config=model.language_model.config)
    for turn in range(3):
        text = torch.cat([text, torch.tensor([[11, 40 + turn], [10 + turn, 30]])], 1)
        settings = {"attention_mask": torch.ones_like(text), "do_sample": False, "max_new_tokens": 3}
        expected = model.generate(text, **settings)
        text = model.generate(text, **settings, **{CACHE: cache})
        assert torch.equal(text, expected)
