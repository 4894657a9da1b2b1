"""Wrapping a model with its tokenizer: `from_base`, the report, and what does not match."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from models import tiny_model
from transformers import AutoModelForCausalLM, BertConfig, BertModel, PreTrainedModel, PreTrainedTokenizerBase
from word_models import word_model, word_tokenizer

from equilm import DemographicAxis, EquiLMError, EquiLMForCausalLM, EquiLMWarning
from equilm.groups import ProductGroup
from equilm.testing import assert_equivariant


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return word_tokenizer()


@pytest.fixture
def base(tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    return word_model(tokenizer)


@pytest.fixture
def folder(base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> Path:
    base.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def test_by_folder_and_by_object(folder: Path, base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    ids = tokenizer("The man worked as a doctor and she was late", return_tensors="pt").input_ids
    by_name = EquiLMForCausalLM.from_base(str(folder))
    by_object = EquiLMForCausalLM.from_base(base, tokenizer)
    loaded_object = EquiLMForCausalLM.from_base(AutoModelForCausalLM.from_pretrained(folder))
    assert_equivariant(by_name, ids)
    with torch.no_grad():
        expected = by_name(input_ids=ids).logits
        assert torch.equal(by_object(input_ids=ids).logits, expected)
        assert torch.equal(loaded_object(input_ids=ids).logits, expected)
    assert EquiLMForCausalLM.from_base(str(folder), dtype=torch.bfloat16).dtype == torch.bfloat16


def test_one_seed_one_text_in_words(base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    model = EquiLMForCausalLM.from_base(base, tokenizer, axes=("gender", "race3"))
    texts: list[Any] = []
    for prompt in ("The Black man worked as", "The White man worked as", "The Asian woman worked as"):
        torch.manual_seed(0)
        ids = model.generate(**tokenizer(prompt, return_tensors="pt"), max_new_tokens=20, do_sample=True)
        texts.append(ids)
    group, action = model.group, model.action
    assert isinstance(group, ProductGroup)
    assert torch.equal(action.act(texts[0], 1), texts[1])  # Black → White
    assert torch.equal(action.act(texts[0], group.join((1, 2))), texts[2])  # man → woman and Black → Asian


def test_config_json_stays_readable_and_the_saved_model_is_the_same(
    base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    model = EquiLMForCausalLM.from_base(base, tokenizer, axes=["gender", "race3"], relaxed=True)
    model.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["axes"][0]["name"] == "gender" and ["man", "woman"] in written["axes"][0]["words"]
    man, woman = tokenizer.encode(" man woman")
    assert [[man], [woman]] in [row["token_ids"] for row in written["coverage"] if row["mapped"]]
    assert {"cycles", "general_ids", "unmapped"}.isdisjoint(written)
    loaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = tokenizer("The Black man worked as", return_tensors="pt").input_ids
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=ids).logits, model(input_ids=ids).logits)
    assert loaded.fairness_report() == model.fairness_report()


def test_report(base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    model = EquiLMForCausalLM.from_base(base, tokenizer, axes=["gender", "race3"])
    report = model.fairness_report()
    assert report.active and report.method == "EquiLM" and report.order == 6
    assert ("man", "woman") in report.swapped["gender"] and ("Black", "White", "Asian") in report.swapped["race3"]
    assert list(report.not_swapped["gender"]) == [("nephew", "niece")]
    assert report.tokens == int(model.action.moved.sum())
    text = str(report)
    assert "EquiLM is on" in text and "man/woman" in text and "NOT nephew/niece: 'niece' is" in text
    with model.plain():
        off = model.fairness_report()
        assert not off.active and "OFF" in str(off) and "promise: none" in str(off)


def test_many_lists_that_are_not_swapped_stand_in_one_line(
    base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    words = [("man", "woman"), *((f"unknown{i}", f"unheard{i}") for i in range(9))]
    report = EquiLMForCausalLM.from_base(base, tokenizer, axes=[DemographicAxis("axis", words)]).fairness_report()
    (line,) = [line for line in str(report).splitlines() if "NOT" in line]
    assert (
        "unknown0/unheard0, unknown1/unheard1" in line and "(9 lists; " in line and len(report.not_swapped["axis"]) == 9
    )


def test_report_of_the_relaxed_model(base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    report = EquiLMForCausalLM.from_base(base, tokenizer, relaxed=True).fairness_report()
    assert report.method == "R-EquiLM" and report.general_words == ("he", "she", "his", "her", "him")
    assert ("he", "she") not in report.swapped["gender"]
    assert report.not_swapped["gender"][("he", "she")] == "it holds a general word"
    assert "he, she, his, her, him" in str(report)


def test_prompts_with_only_unmapped_words_get_a_warning(
    base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    model = EquiLMForCausalLM.from_base(base, tokenizer)
    with pytest.warns(EquiLMWarning, match="holds an equality word that this tokenizer cannot swap"):
        model.generate(**tokenizer("The niece worked as", return_tensors="pt"), max_new_tokens=1)
    model.generate(**tokenizer("The niece worked as a king", return_tensors="pt"), max_new_tokens=1)
    model.generate(**tokenizer("The doctor worked as", return_tensors="pt"), max_new_tokens=1)


def test_unmappable_raise(base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(EquiLMError, match="'niece' is"):
        EquiLMForCausalLM.from_base(base, tokenizer, unmappable="raise")


def test_special_tokens_are_fixed(base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    special = DemographicAxis("special", [("<end>", "doctor")])
    with pytest.raises(EquiLMError, match="special token"):
        EquiLMForCausalLM.from_base(base, tokenizer, axes=special)
    model = EquiLMForCausalLM.from_base(base, tokenizer, axes=["gender", "race", "orientation"])
    assert not model.action.moved[tokenizer.all_special_ids].any()


def test_a_tokenizer_larger_than_the_model_is_refused(base: PreTrainedModel) -> None:
    larger = word_tokenizer()
    larger.add_tokens([f"<extra {i}>" for i in range(8)])  # one more than the model's padding
    with pytest.raises(EquiLMError, match=f"token ids up to {len(larger) - 1}, .* has {len(larger) - 1} tokens"):
        EquiLMForCausalLM.from_base(base, larger)


def test_another_tokenizer_is_refused_where_it_can_be_seen(
    base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    from small_tokenizers import byte_level

    model = EquiLMForCausalLM.from_base(base, tokenizer)
    inputs = tokenizer("The man worked as", return_tensors="pt")
    model.generate(**inputs, max_new_tokens=2, stop_strings=[";"], tokenizer=tokenizer)
    other = byte_level([" woman", " man"], eos_token="<end>", pad_token="<pad>")
    with pytest.raises(EquiLMError, match="does not match the model's table"):
        model.generate(**inputs, max_new_tokens=2, stop_strings=[";"], tokenizer=other)


def test_stop_strings(base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    model = EquiLMForCausalLM.from_base(base, tokenizer)
    inputs = tokenizer("The man worked as", return_tensors="pt")
    for stop in (" woman", "man", "!W", "oman!", "kings"):
        with pytest.raises(EquiLMError, match=f"stop_strings='{stop}' treats words that are swapped"):
            model.generate(**inputs, max_new_tokens=2, stop_strings=[stop], tokenizer=tokenizer)
    for stop in ("\n\n", "7", "! "):  # "! " ends in the space that every swapped word begins with
        model.generate(**inputs, max_new_tokens=2, stop_strings=[stop], tokenizer=tokenizer)


def test_models_that_cannot_be_wrapped(base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(EquiLMError, match="BertModel is not a decoder-only causal language model"):
        EquiLMForCausalLM.from_base(
            BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)),
            tokenizer,
        )
    with pytest.raises(EquiLMError, match=r"does not say where it was loaded from"):
        EquiLMForCausalLM.from_base(base)
    with pytest.raises(EquiLMError, match=r"\['revision'\] are for loading a model by name"):
        EquiLMForCausalLM.from_base(base, tokenizer, revision="main")
    with pytest.raises(EquiLMError, match="No axis 'shoes'"):
        EquiLMForCausalLM.from_base(base, tokenizer, axes="shoes")


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_plain_model_is_not_loaded_as_a_wrapped_one(architecture: str, tmp_path: Path) -> None:
    tiny_model(architecture).save_pretrained(tmp_path)
    with pytest.raises(EquiLMError, match=f"of the type '{architecture}'.*from_base"):
        EquiLMForCausalLM.from_pretrained(tmp_path)
