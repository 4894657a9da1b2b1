"""Models for more than text, of which the text is used: their configurations nest, and images are never dropped."""

from pathlib import Path
from typing import Any

import pytest
import torch
from cache_models import cache_model
from models import AXES, random_ids
from transformers import AutoConfig, AutoModelForCausalLM

from equilm import EquiLMConfig, EquiLMError, EquiLMForCausalLM
from equilm.testing import assert_equivariant

NAMES = ["gemma3", "fuyu", "llava", "paligemma"]


def wrapped(name: str, axes: str = "d3", **settings: Any) -> Any:
    config = EquiLMConfig(text_config=(base := cache_model(name)).config, cycles=AXES[axes], **settings)
    return EquiLMForCausalLM(config, base).eval()


@pytest.mark.parametrize("axes", ["d3", "2x3"])
@pytest.mark.parametrize("name", NAMES)
def test_text_alone_is_the_definition(name: str, axes: str) -> None:
    model = wrapped(name, axes)
    ids = random_ids(3, 12)
    base = model.language_model
    with torch.no_grad():
        expected = torch.stack([base(input_ids=row[ids]).logits[..., row] for row in model.permutation]).mean(0)
        torch.testing.assert_close(model(input_ids=ids).logits, expected, atol=1e-5, rtol=1e-5)
    assert_equivariant(model, random_ids(2, 9, seed=int(torch.seed() % 2**31)))


@pytest.mark.parametrize("name", NAMES[:3])  # PaliGemma reads its prompt in both directions, its answer in one
def test_generate_reads_the_logits_of_the_whole_text(name: str) -> None:
    model, ids = wrapped(name), random_ids(2, 12)
    mask = torch.ones_like(ids)
    settings: dict[str, Any] = {"do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    output = model.generate(ids, attention_mask=mask, max_new_tokens=4, **settings)
    with torch.no_grad():
        whole = model(input_ids=output.sequences, use_cache=False).logits[:, 11:-1]
    torch.testing.assert_close(torch.stack(output.logits, 1), whole, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_configuration_says_what_the_text_is(name: str, tmp_path: Path) -> None:
    model = wrapped(name)
    assert model.config.vocab_size == model.language_model.get_input_embeddings().num_embeddings
    model.config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert loaded.vocab_size == model.config.vocab_size
    assert type(loaded.text_config) is type(model.language_model.config)
    assert loaded.get_text_config() is loaded.text_config.get_text_config()


# PaliGemma reads its prompt in both directions, so that its cache cannot be continued as a prompt.
@pytest.mark.filterwarnings("ignore:The self-check found cached steps of PaliGemma")
@pytest.mark.parametrize("name", NAMES)
def test_save_and_load(name: str, tmp_path: Path) -> None:
    model, ids = wrapped(name), random_ids(2, 7)
    model.save_pretrained(tmp_path)
    loaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(loaded) is EquiLMForCausalLM and type(loaded.language_model) is type(model.language_model)
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=ids).logits, model(input_ids=ids).logits)


@pytest.mark.parametrize("name", NAMES)
def test_images_are_refused_by_name(name: str) -> None:
    model = wrapped(name)
    images = {"pixel_values": torch.randn(1, 3, 8, 8)}
    with pytest.raises(EquiLMError, match="what the group does to pixel_values, a Tensor"):
        model(input_ids=random_ids(1, 5), **images)
    with pytest.raises(EquiLMError, match="pixel_values"):
        model.generate(random_ids(1, 5), **images, max_new_tokens=2)


def test_tokens_that_stand_for_images_are_refused() -> None:
    model, ids = wrapped("gemma3"), random_ids(1, 5)
    types = torch.tensor([[0, 1, 1, 0, 0]])
    with pytest.raises(EquiLMError, match="mm_token_type_ids marks tokens that are not text"):
        model(input_ids=ids, mm_token_type_ids=types)
    with pytest.raises(EquiLMError, match="mm_token_type_ids marks tokens that are not text"):
        model.generate(ids, mm_token_type_ids=types, max_new_tokens=2)
    with torch.no_grad():  # as processors give them for text
        plain = model(input_ids=ids).logits
        assert torch.equal(model(input_ids=ids, mm_token_type_ids=0 * types).logits, plain)
    settings = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 3, "do_sample": False}
    text = model.generate(ids, **settings)
    assert torch.equal(model.generate(ids, mm_token_type_ids=0 * types, **settings), text)
