"""What the demo application computes: columns, texts, gaps, rows and next words, against independent counts."""

import re
from itertools import pairwise
from typing import Any, cast

import pytest
import torch
from comparison import Comparison, Decoding, compare
from picture_words import drawn_picture, picture_processor, picture_word_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from word_models import word_model, word_tokenizer

from equilm import EquiLMError, EquiLMForCausalLM, EquiLMForImageTextToText
from equilm.study.summary import ROUNDING

PROMPTS = {"gender": "The man worked as", "race3": "The Black person was known for"}
DECODERS: tuple[Any, ...] = ("greedy", "sampling", "beams")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return word_tokenizer()


@pytest.fixture(scope="module")
def base(tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    model = word_model(tokenizer)
    moved = tokenizer(" he she man woman Black White Asian").input_ids
    cast(Any, model).lm_head.weight.data[moved] *= 2  # so that the texts are full of what is swapped
    return model


@pytest.fixture(scope="module")
def fair(base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, EquiLMForCausalLM]:
    return {axis: EquiLMForCausalLM.from_base(base, tokenizer, axes=axis) for axis in PROMPTS}


def compared(model: EquiLMForCausalLM, tokenizer: Any, axis: str, level: str = "EquiLM", **decoding: Any) -> Comparison:
    return compare(model, tokenizer, PROMPTS[axis], level, Decoding(**{"max_new_tokens": 8, **decoding}))


def test_a_column_for_each_group(fair: dict[str, EquiLMForCausalLM], tokenizer: PreTrainedTokenizerBase) -> None:
    found = compared(fair["race3"], tokenizer, "race3")
    assert found.prompts == tuple(f"The {group} person was known for" for group in ("Black", "White", "Asian"))
    assert found.groups == ("Black", "White", "Asian")
    second = compare(fair["race3"], tokenizer, found.prompts[1], "EquiLM", Decoding(max_new_tokens=1))
    assert second.prompts == (found.prompts[1], found.prompts[2], found.prompts[0])
    assert second.groups == ("White", "Asian", "Black")


@pytest.mark.parametrize("axis", PROMPTS)
@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("level", ["EquiLM", "sequence"])
def test_fair_texts_are_swaps_of_one_another(
    fair: dict[str, EquiLMForCausalLM], tokenizer: PreTrainedTokenizerBase, axis: str, decoder: str, level: str
) -> None:
    found = compared(fair[axis], tokenizer, axis, level, decoder=decoder)
    assert found.fair.texts == found.fair.swapped
    assert found.plain.texts != found.plain.swapped
    assert found.fair.largest_gap <= ROUNDING < 1e-2 < found.plain.mean_gap <= found.plain.largest_gap
    texts = found.fair.texts
    assert (found.fair.others[0], found.fair.others[1:]) == (texts[1], (texts[0],) * (len(texts) - 1))


def test_swaps_are_made_for_the_right_group(
    fair: dict[str, EquiLMForCausalLM], tokenizer: PreTrainedTokenizerBase
) -> None:
    run = compared(fair["race3"], tokenizer, "race3", seed=3).plain
    order = ("Black", "White", "Asian")

    def shifted(text: str, by: int) -> str:
        return re.sub("|".join(order), lambda found: order[(order.index(found[0]) + by) % 3], text)

    assert any(word in run.texts[0] for word in order) and any(word in run.texts[1] for word in order)
    assert run.swapped == (shifted(run.texts[1], -1), shifted(run.texts[0], 1), shifted(run.texts[0], 2))


def test_one_seed_one_text(fair: dict[str, EquiLMForCausalLM], tokenizer: PreTrainedTokenizerBase) -> None:
    settings: dict[str, Any] = {"decoder": "sampling", "temperature": 2.0, "top_k": 0}
    first, again, other = (compared(fair["gender"], tokenizer, "gender", seed=seed, **settings) for seed in (1, 1, 2))
    assert (first.plain.texts, first.fair.texts) == (again.plain.texts, again.fair.texts)
    assert first.fair.texts != other.fair.texts


@pytest.mark.parametrize("level", ["EquiLM", "sequence"])
def test_the_plain_gap_is_that_of_the_texts(
    base: PreTrainedModel, fair: dict[str, EquiLMForCausalLM], tokenizer: PreTrainedTokenizerBase, level: str
) -> None:
    found = compared(fair["race3"], tokenizer, "race3", level).plain
    action = fair["race3"].action
    gaps: list[float] = []
    for prompt in compared(fair["race3"], tokenizer, "race3").prompts:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        sequence = cast(Any, base).generate(ids, max_new_tokens=8, do_sample=False)
        length = ids.shape[1]
        log_probs = []
        for g in range(3):
            image = action.act(sequence, g)
            with torch.no_grad():
                logits = base(image).logits[0, length - 1 : -1].log_softmax(-1)
            log_probs.append(logits[torch.arange(len(logits)), image[0, length:]])
        for other in log_probs[1:]:
            difference = other - log_probs[0]
            gaps += (
                difference.abs().tolist() if level == "EquiLM" else [float(difference.sum().abs() / len(difference))]
            )
    assert found.largest_gap == pytest.approx(max(gaps), rel=1e-3)
    assert found.mean_gap == pytest.approx(sum(gaps) / len(gaps), rel=1e-3)


def test_rows_are_those_of_the_base_model(
    fair: dict[str, EquiLMForCausalLM], tokenizer: PreTrainedTokenizerBase
) -> None:
    # Three prompts of eight tokens; the prompt's second token is swapped, so every fair pass has three rows.
    found = compared(fair["race3"], tokenizer, "race3")
    assert (found.plain.rows, found.fair.rows) == (3 * 8, 3 * 3 * 8)
    whole = compared(fair["race3"], tokenizer, "race3", "sequence")
    assert (whole.plain.rows, whole.fair.rows) == (3 * 8, 3 * 8)
    beams = compared(fair["race3"], tokenizer, "race3", decoder="beams", num_beams=2)
    assert beams.plain.rows == 3 * 2 * 8
    assert found.plain.seconds > 0 and found.fair.seconds > 0


@pytest.mark.parametrize("level", ["EquiLM", "sequence"])
def test_next_words(
    base: PreTrainedModel, fair: dict[str, EquiLMForCausalLM], tokenizer: PreTrainedTokenizerBase, level: str
) -> None:
    found = compared(fair["race3"], tokenizer, "race3", level)
    with torch.no_grad():
        plain = [base(tokenizer(text, return_tensors="pt").input_ids).logits[0, -1] for text in found.prompts]
    probabilities = torch.stack(plain).softmax(-1)
    cycles = set()
    for word in found.next_words:
        tokens = [tokenizer(text).input_ids for text in word.words]
        if all(len(ids) == 1 for ids in tokens):  # what stands for part of a character has no text of its own
            expected = [float(probabilities[g, ids[0]]) for g, ids in enumerate(tokens)]
            assert word.plain == pytest.approx(expected, rel=1e-4)
        assert word.fair == pytest.approx([word.fair[0]] * 3, rel=1e-4)
        if level == "sequence":
            assert word.fair[0] == pytest.approx(sum(word.plain) / 3, rel=1e-4)
        cycles |= {word.words} if len(set(word.words)) > 1 else set()
    order = [" Black", " White", " Asian"]
    assert cycles and all(order.index(b) == (order.index(a) + 1) % 3 for cycle in cycles for a, b in pairwise(cycle))
    assert all(max(word.plain) > 1.01 * min(word.plain) for word in found.next_words)
    means = [sum(word.plain) for word in found.next_words[:5]]
    assert means == sorted(means, reverse=True)


def test_without_a_word_of_the_axis(fair: dict[str, EquiLMForCausalLM], tokenizer: PreTrainedTokenizerBase) -> None:
    found = compare(fair["gender"], tokenizer, "The doctor was", "EquiLM", Decoding(max_new_tokens=4))
    assert found.prompts == ("The doctor was",)
    assert found.groups == ("male", "female")
    assert "Nothing in the prompt is swapped" in found.notes[0] and "'gender'" in found.notes[0]
    assert found.plain.others == found.fair.swapped == ()
    swapped = [frozenset(word.words) for word in found.next_words if len(set(word.words)) == 2]
    assert len(set(swapped)) == len(swapped) >= 2  # "he / she" and "she / he" are one row here
    assert all(word.fair == pytest.approx([word.fair[0]] * 2, rel=1e-4) for word in found.next_words)


def test_relaxed_promises_less(base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    model = EquiLMForCausalLM.from_base(base, tokenizer, axes="gender", relaxed=True)
    found = compared(model, tokenizer, "gender", "R-EquiLM")
    assert any("promises nothing about whole texts" in note for note in found.notes)
    assert found.report.method == "R-EquiLM"
    assert ROUNDING < found.fair.largest_gap < found.plain.largest_gap


def test_words_that_are_no_single_tokens_are_named(
    fair: dict[str, EquiLMForCausalLM], tokenizer: PreTrainedTokenizerBase
) -> None:
    found = compare(fair["gender"], tokenizer, "The niece was", "EquiLM", Decoding(max_new_tokens=2))
    assert any("cannot swap" in note for note in found.notes)
    assert ("nephew", "niece") in found.report.not_swapped["gender"]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [(" \n", "prompt is empty"), ("man " * 99, "101 tokens, but with 8 new ones the model takes at most 56")],
)
def test_refuses_prompts(
    fair: dict[str, EquiLMForCausalLM],
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tokenizer, "model_max_length", 64)
    with pytest.raises(EquiLMError, match=message):
        compare(fair["gender"], tokenizer, prompt, "EquiLM", Decoding(max_new_tokens=8))


def test_settings() -> None:
    assert Decoding("greedy", 5).settings() == {"max_new_tokens": 5, "do_sample": False, "num_beams": 1}
    assert Decoding("beams", num_beams=3).settings()["num_beams"] == 3
    sampling = Decoding("sampling", temperature=0.5, top_k=7, top_p=0.9).settings()
    assert (sampling["do_sample"], sampling["temperature"], sampling["top_k"], sampling["top_p"]) == (True, 0.5, 7, 0.9)


@pytest.mark.parametrize("axis", PROMPTS)
@pytest.mark.parametrize("level", ["EquiLM", "sequence"])
def test_a_prompt_about_a_picture(axis: str, level: str) -> None:
    processor = picture_processor()
    model = EquiLMForImageTextToText.from_base(picture_word_model(processor), processor, axes=axis)
    settings = Decoding("sampling", max_new_tokens=6)
    found = {
        color: compare(model, processor, PROMPTS[axis], level, settings, drawn_picture(color))
        for color in ("red", "navy")
    }
    for comparison in found.values():
        assert len(comparison.prompts) == len(comparison.fair.texts) == model.action.group.order
        assert comparison.fair.texts == comparison.fair.swapped
        assert comparison.plain.texts != comparison.plain.swapped
        assert comparison.fair.largest_gap <= ROUNDING < 1e-2 < comparison.plain.largest_gap
        for word in comparison.next_words:
            assert word.fair == pytest.approx([word.fair[0]] * len(word.fair), abs=1e-5)
        assert "<image>" not in comparison.prompts[0] and PROMPTS[axis] in comparison.prompts[0]
    assert found["red"].plain.texts != found["navy"].plain.texts
    assert found["red"].next_words != found["navy"].next_words
