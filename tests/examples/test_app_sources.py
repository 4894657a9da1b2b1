"""The demo application's models and word lists: loaded once, no code run, the package's own words for what is wrong."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from picture_words import IMAGE_TOKEN, saved_picture_model
from sources import OWN_LIST, PACKAGED, load, read_axis, wrap
from transformers import BertConfig, PreTrainedModel, PreTrainedTokenizerBase

from equilm import DemographicAxis, EquiLMError, EquiLMForCausalLM, EquiLMForImageTextToText


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    yield
    load.cache_clear()
    wrap.cache_clear()


@pytest.fixture
def folder(base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> Path:
    base.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_own_list() -> None:
    axis = read_axis(OWN_LIST, '{"name": "age", "words": [["young", "old"]]}')
    assert axis == DemographicAxis("age", [("young", "old")])
    assert read_axis("race3", "not read") == DemographicAxis.load("race3")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "^The word list is not JSON"),
        ("", "^The word list is not JSON"),
        ('["man"]', "^The word list: An axis is written as an object"),
        ('{"name": "a", "words": [["man", "woman"], ["he"]]}', "at least two words"),
        ('{"name": "a", "words": [["man", "woman"], ["x", "y", "z"]]}', "need one length"),
        ('{"name": "a", "words": [["man", "woman"], ["Man", "girl"]]}', "stands in words.0. and again"),
        ('{"name": "a", "words": [["man", "woman"]], "code": "1"}', "Unknown key 'code'"),
        ("[" * 100_000, "^The word list is not JSON"),
        ("../../etc/passwd", "^The word list is not JSON"),
    ],
)
def test_bad_lists(text: str, message: str) -> None:
    with pytest.raises(EquiLMError, match=message):
        read_axis(OWN_LIST, text)


def test_words_that_are_no_single_tokens(folder: Path) -> None:
    with pytest.raises(EquiLMError, match="cannot be mapped"):
        wrap(str(folder), DemographicAxis("age", [("adolescent", "octogenarian")]), relaxed=False)


def test_models_are_loaded_once(folder: Path) -> None:
    gender, race = (wrap(str(folder), DemographicAxis.load(axis), relaxed=False)[0] for axis in ("gender", "race"))
    assert gender.language_model is race.language_model is load(str(folder))[0]
    assert wrap(str(folder), DemographicAxis.load("gender"), relaxed=False)[0] is gender
    assert wrap(str(folder), DemographicAxis.load("gender"), relaxed=True)[0].config.relaxed


def test_a_model_that_was_saved_wrapped_is_wrapped_anew(
    base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    EquiLMForCausalLM.from_base(base, tokenizer, axes="race").save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model, _ = wrap(str(tmp_path), DemographicAxis.load("gender"), relaxed=False)
    assert list(model.fairness_report().swapped) == ["gender"]
    ids = tokenizer("The man", return_tensors="pt").input_ids
    with model.plain(), torch.no_grad():
        assert torch.equal(model(ids).logits, base(ids).logits)


def test_no_pickle_is_read(folder: Path, base: PreTrainedModel) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(base.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(EquiLMError, match="safetensors"):
        load(str(folder))


@pytest.mark.parametrize("name", ["nowhere/to-be-found", "", "not a name"])
def test_no_such_model(name: str) -> None:
    with pytest.raises(EquiLMError, match=f"^The model '{name}' cannot be loaded: expected a Hub id or a folder"):
        load(name)


def test_a_model_of_another_kind(tmp_path: Path) -> None:
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(EquiLMError, match="is an encoder"):
        load(str(tmp_path))


def test_a_model_that_reads_pictures(tmp_path: Path, folder: Path) -> None:
    name = saved_picture_model(tmp_path / "seeing")
    model, processor = wrap(name, DemographicAxis.load("gender"), relaxed=False, sees=True)
    assert isinstance(model, EquiLMForImageTextToText) and processor.image_token == IMAGE_TOKEN
    assert model.language_model is load(name, sees=True)[0]
    with pytest.raises(EquiLMError, match="reads no pictures"):
        load(PACKAGED, sees=True)
    with pytest.raises(EquiLMError, match="pictures"):
        load(str(folder), sees=True)
