"""Repositories with a wrong or tampered table are refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_tokenizers import byte_level
from transformers import AutoModelForCausalLM
from word_models import word_model, word_tokenizer

from equilm import EquiLMError, EquiLMForCausalLM

Config = dict[str, Any]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wrapped model and its tokenizer."""
    folder = tmp_path_factory.mktemp("fair")
    tokenizer = word_tokenizer()
    EquiLMForCausalLM.from_base(word_model(tokenizer), tokenizer, axes=["gender", "race3"]).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def other_partner(config: Config) -> None:
    one, two = config["cycles"][0][:2]
    one[1], two[1] = two[1], one[1]  # still a permutation: "male" is swapped with the partner of "father"


def other_general_words(config: Config) -> None:
    config["general_ids"].pop()


def fewer_lists(config: Config) -> None:
    config["cycles"][1].pop()


def an_axis_more(config: Config) -> None:
    config["axes"].append(config["axes"][0])


def words_for_show(config: Config) -> None:
    config["axes"][0]["words"][0] = ["rich", "poor"]


def forms_for_show(config: Config) -> None:
    config["coverage"][0]["words"] = ["rich", "poor"]


def no_permutation(config: Config) -> None:
    config["cycles"][0][1] = config["cycles"][0][0]


def malformed(config: Config) -> None:
    del config["coverage"][0]["general"]


def consistent_lie(config: Config) -> None:
    """Other tokens in the table and in the coverage alike: only the tokenizer knows better."""
    other = 60  # some byte
    token = config["cycles"][0][0][1]
    config["cycles"][0][0][1] = other
    for row in config["coverage"]:
        row["token_ids"] = [[other if one == token else one for one in ids] for ids in row["token_ids"]]


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (other_partner, "table of axis 'gender' swaps other tokens than its coverage says"),
        (other_general_words, "general token ids differ"),
        (fewer_lists, "table of axis 'race3' swaps other tokens"),
        (an_axis_more, "has 3 axes, but lists for 2"),
        (words_for_show, "Axis 'gender' and its coverage differ"),
        (forms_for_show, "shows 'rich/poor' as a form of 'male/female'"),
        (no_permutation, "stands in two places"),
        (malformed, "malformed"),
        (consistent_lie, "does not match the model's table: token 60"),
    ],
)
def test_a_tampered_table_is_refused(
    saved: Path, tmp_path: Path, tamper: Callable[[Config], None], message: str
) -> None:
    for file in saved.iterdir():
        (tmp_path / file.name).symlink_to(file)
    config = json.loads((saved / "config.json").read_text())
    tamper(config)
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(EquiLMError, match=message):
        AutoModelForCausalLM.from_pretrained(tmp_path)


def test_another_tokenizer_beside_the_model_is_refused(saved: Path, tmp_path: Path) -> None:
    for file in saved.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "tokenizer.json").unlink()
    byte_level([" man", " woman"], eos_token="<end>", pad_token="<pad>").save_pretrained(tmp_path)
    with pytest.raises(EquiLMError, match="does not match the model's table"):
        AutoModelForCausalLM.from_pretrained(tmp_path)


def test_an_untouched_one_loads_also_without_a_tokenizer(saved: Path, tmp_path: Path) -> None:
    AutoModelForCausalLM.from_pretrained(saved)
    for file in saved.iterdir():
        if not file.name.startswith("tokenizer"):
            (tmp_path / file.name).symlink_to(file)
    AutoModelForCausalLM.from_pretrained(tmp_path)
