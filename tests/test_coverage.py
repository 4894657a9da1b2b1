"""Repositories with a wrong or tampered table are refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from small_tokenizers import byte_level, uncased
from transformers import AutoModelForCausalLM
from word_models import word_model, word_tokenizer

from equilm import EquiLMError, EquiLMForCausalLM
from equilm._coverage import Coverage, check_tokenizer

Config = dict[str, Any]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wrapped model and its tokenizer."""
    folder = tmp_path_factory.mktemp("fair")
    tokenizer = word_tokenizer()
    EquiLMForCausalLM.from_base(word_model(tokenizer), tokenizer, axes=["gender", "race3"]).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def mapped_rows(config: Config) -> list[Config]:
    return [row for row in config["coverage"] if row["mapped"] and not row["general"]]


def other_partner(config: Config) -> None:
    first, *others = mapped_rows(config)
    one, two = first["token_ids"], next(row for row in others if row["entry"] != first["entry"])["token_ids"]
    one[1], two[1] = two[1], one[1]  # still a permutation: one word is swapped with the partner of another


def other_partner_of_the_same_list(config: Config) -> None:
    first, second = next((a, b) for a, b in pairwise(mapped_rows(config)) if a["entry"] == b["entry"])
    one, two = first["token_ids"], second["token_ids"]
    one[1], two[1] = two[1], one[1]  # " woman" becomes the partner of " Man", " Woman" that of " man"


def a_form_fewer(config: Config) -> None:
    row = next(row for row in mapped_rows(config) if row["variant"] == "title")
    config["coverage"].remove(row)


def other_general_words(config: Config) -> None:
    next(row for row in config["coverage"] if row["mapped"] and row["general"])["mapped"] = False


def first_of_several(config: Config) -> None:
    next(row for row in config["coverage"] if not row["mapped"])["mapped"] = True


def fewer_lists(config: Config) -> None:
    entry = config["axes"][1]["words"][0]
    config["coverage"] = [row for row in config["coverage"] if row["entry"] != entry]


def an_axis_more(config: Config) -> None:
    config["axes"].append(config["axes"][0])


def foreign_rows(config: Config) -> None:
    config["axes"].pop()


def words_for_show(config: Config) -> None:
    config["axes"][0]["words"][0] = ["rich", "poor"]


def forms_for_show(config: Config) -> None:
    config["coverage"][0]["words"] = ["rich", "poor"]


def no_permutation(config: Config) -> None:
    one, two = mapped_rows(config)[:2]
    one["token_ids"] = two["token_ids"]


def malformed(config: Config) -> None:
    del config["coverage"][0]["general"]


def consistent_lie(config: Config) -> None:
    """Another token for a word: only the tokenizer knows better."""
    other = 60  # some byte
    token = mapped_rows(config)[0]["token_ids"][1][0]
    for row in config["coverage"]:
        row["token_ids"] = [[other if one == token else one for one in ids] for ids in row["token_ids"]]


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (other_partner, "does not match the model's table"),
        (other_partner_of_the_same_list, "' Female', where 'female' was mapped"),
        (a_form_fewer, r"has 'Male/Female' as single tokens \(title\), but the coverage leaves out that form"),
        (other_general_words, "contradict"),
        (first_of_several, "contradict"),
        (fewer_lists, "Axis 'race3' and its coverage differ"),
        (an_axis_more, "stands in two places"),
        (foreign_rows, "Axis 'race3' and its coverage differ"),
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


@pytest.mark.parametrize("word", ["man", "Man"])
def test_case_does_not_count_where_the_tokenizer_reads_none(word: str) -> None:
    tokenizer = uncased(["man", "woman"])
    row = Coverage("gender", ("man", "woman"), (word, "woman"), "lower", ((2,), (3,)), True)
    check_tokenizer("uncased", tokenizer.decode, tokenizer.encode, [row])  # without its other forms, the same tokens
    with pytest.raises(EquiLMError, match="token 2 is 'man', where 'woman' was mapped"):
        check_tokenizer("uncased", tokenizer.decode, tokenizer.encode, [replace(row, words=("woman", "man"))])


def test_an_untouched_one_loads_also_without_a_tokenizer(saved: Path, tmp_path: Path) -> None:
    AutoModelForCausalLM.from_pretrained(saved)
    for file in saved.iterdir():
        if not file.name.startswith("tokenizer"):
            (tmp_path / file.name).symlink_to(file)
    AutoModelForCausalLM.from_pretrained(tmp_path)
