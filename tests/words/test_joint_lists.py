"""Joint lists at token level: names that several axes move, in the model, its checks and the metric."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import related
from small_tokenizers import byte_level
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from equilm import DemographicAxis, EquiLMForCausalLM, VocabularyAction
from equilm.metrics.group_fairness import group_fairness
from equilm.testing import assert_equivariant, equivariance_errors, log_prob_gap

# Members of gender, race and age, row by row: the words that only these axes have, and names that two or three share.
GENDER, RACE, AGE = [("he", "she"), ("king", "queen")], [("Black", "White", "Asian")], [("young", "old")]
NAMES = [[["Jamal", "Greg"], ["Lakisha", "Emily"]], [["Hakim", "Todd"], ["Aisha", "Anne"]]]
NAMES3 = [[["Tyrone", "Brad", "Wei"], ["Keisha", "Jill", "Mei"]]]
NAMES8 = [[[["Jay", "Neil"], ["Omar", "Otto"]], [["Kim", "Ada"], ["Ayo", "Ida"]]]]
WORDS = [
    *["he", "she", "king", "queen", "Black", "White", "Asian", "young", "old"],
    *["Jamal", "Greg", "Lakisha", "Emily", "Hakim", "Todd", "Aisha", "Anne", "Tyrone", "Brad", "Wei", "Keisha", "Jill"],
    *["Mei", "Jay", "Neil", "Omar", "Otto", "Kim", "Ada", "Ayo", "Ida", "met", "saw", "today", "there", "one", "two"],
]
PLAIN = DemographicAxis("gender", GENDER)
# The axes; the sizes of their factors in the order of first mention; for each list which factors index it.
CASES: dict[str, tuple[list[DemographicAxis], tuple[int, ...], list[tuple[Any, tuple[int, ...]]]]] = {
    "4": (
        [PLAIN, DemographicAxis("names", NAMES, axes=("gender", "race"))],
        (2, 2),
        [*[(entry, (0,)) for entry in GENDER], *[(entry, (0, 1)) for entry in NAMES]],
    ),
    "4, the list alone": (
        [DemographicAxis("names", NAMES, axes=("gender", "race"))],
        (2, 2),
        [(entry, (0, 1)) for entry in NAMES],
    ),
    "6, race first": (
        [DemographicAxis("race", RACE), PLAIN, DemographicAxis("names", NAMES3, axes=("gender", "race"))],
        (3, 2),
        [*[(entry, (0,)) for entry in RACE], *[(entry, (1,)) for entry in GENDER], (NAMES3[0], (1, 0))],
    ),
    "8, three axes": (
        [PLAIN, DemographicAxis("age", AGE), DemographicAxis("names", NAMES8, axes=("gender", "race", "age"))],
        (2, 2, 2),
        [*[(entry, (0,)) for entry in GENDER], (AGE[0], (1,)), (NAMES8[0], (0, 2, 1))],
    ),
}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return byte_level([f" {word}" for word in WORDS], eos_token="<end>", pad_token="<pad>")


@pytest.fixture(scope="module")
def base(tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    config = LlamaConfig(
        **sizes,
        vocab_size=len(tokenizer) + 3,
        num_attention_heads=4,
        initializer_range=0.4,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config).eval()


def definition(case: str, tokenizer: PreTrainedTokenizerBase, size: int, left_out: tuple[str, ...] = ()) -> Tensor:
    """What each element turns each token into, shape ``(|G|, V)``, worked out word by word."""
    _, sizes, lists = CASES[case]
    rows = []
    for shifts in product(*map(range, sizes)):  # mixed radix, the first factor slowest
        row = list(range(size))
        for words, factors in lists:
            cells = list(product(*(range(sizes[factor]) for factor in factors)))
            if any(_word(words, cell) in left_out for cell in cells):
                continue
            for cell in cells:
                moved = [(i + shifts[factor]) % sizes[factor] for i, factor in zip(cell, factors, strict=True)]
                row[_token(tokenizer, _word(words, cell))] = _token(tokenizer, _word(words, tuple(moved)))
        rows.append(row)
    return torch.tensor(rows)


def _word(words: Any, cell: tuple[int, ...]) -> str:
    for member in cell:
        words = words[member]
    return str(words)


def _token(tokenizer: PreTrainedTokenizerBase, word: str) -> int:
    (token,) = tokenizer.encode(f" {word}")
    return int(token)


def random_ids(tokenizer: PreTrainedTokenizerBase, seed: int, batch: int = 3, length: int = 9) -> Tensor:
    """Ids of random words, shape ``(batch, length)``."""
    words = torch.tensor([_token(tokenizer, word) for word in WORDS])
    return words[torch.randint(len(WORDS), (batch, length), generator=torch.Generator().manual_seed(seed))]


@pytest.mark.parametrize("case", CASES)
class TestEachGroup:
    def test_the_table_is_the_definition(self, case: str, tokenizer: PreTrainedTokenizerBase) -> None:
        action = VocabularyAction.from_axes(CASES[case][0], tokenizer)
        assert action.group.order == int(case.split(",")[0])
        assert torch.equal(action.permutation, definition(case, tokenizer, action.vocab_size))

    def test_logits_equal_the_definition(
        self, case: str, tokenizer: PreTrainedTokenizerBase, base: PreTrainedModel
    ) -> None:
        model = EquiLMForCausalLM.from_base(base, tokenizer, axes=CASES[case][0])
        table = definition(case, tokenizer, base.config.get_text_config().vocab_size)
        ids = random_ids(tokenizer, seed=int(torch.seed() % 2**31))
        with torch.no_grad():
            expected = torch.stack([base(input_ids=row[ids]).logits[..., row] for row in table]).mean(0)
            torch.testing.assert_close(model(input_ids=ids).logits, expected, atol=1e-5, rtol=0)

    def test_relaxed_logits_equal_the_definition(
        self, case: str, tokenizer: PreTrainedTokenizerBase, base: PreTrainedModel
    ) -> None:
        axes = list(CASES[case][0])
        general = tuple(str(axes[-1].words[0][i]) for i in (0, 1))  # two names of one list: all of it leaves E
        axes[-1] = DemographicAxis(
            axes[-1].name, axes[-1].to_dict()["words"], (*general, "today"), axes=tuple(axes[-1].axes)
        )
        model = EquiLMForCausalLM.from_base(base, tokenizer, axes=axes, relaxed=True)
        table = definition(case, tokenizer, base.config.get_text_config().vocab_size, left_out=general)
        ids = random_ids(tokenizer, seed=int(torch.seed() % 2**31))
        outside = [_token(tokenizer, word) for word in (*general, "today")]
        with torch.no_grad():
            expected = torch.stack([base(input_ids=row[ids]).logits[..., row] for row in table]).mean(0)
            expected[..., outside] = base(input_ids=ids).logits[..., outside]
            torch.testing.assert_close(model(input_ids=ids).logits, expected, atol=1e-5, rtol=0)
        assert_equivariant(model, ids)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    def test_the_checks_pass_and_can_fail(
        self, case: str, dtype: torch.dtype, tokenizer: PreTrainedTokenizerBase, base: PreTrainedModel
    ) -> None:
        weights = base.state_dict()
        config: Any = base.config
        copy: Any = LlamaForCausalLM(config)
        copy.to(dtype).eval()
        copy.load_state_dict(weights)
        model = EquiLMForCausalLM.from_base(copy, tokenizer, axes=CASES[case][0])
        ids = random_ids(tokenizer, seed=int(torch.seed() % 2**31))
        assert [entry.element for entry in assert_equivariant(model, ids)] == list(model.group.elements)
        with model.plain():
            assert max(entry.error for entry in equivariance_errors(model, ids)) > 0.5
        if dtype == torch.float32:
            assert log_prob_gap(model, model.action, ids, prompt_length=3).max() <= 1e-4
            assert log_prob_gap(model.language_model, model.action, ids, prompt_length=3).max() > 0.1

    def test_the_metric_finds_no_gap(
        self, case: str, tokenizer: PreTrainedTokenizerBase, base: PreTrainedModel
    ) -> None:
        settings: dict[str, Any] = {"num_continuations": 2, "max_new_tokens": 4, "bootstrap": 5, "progress": False}
        name = str(CASES[case][0][-1].words[0][0])
        model = EquiLMForCausalLM.from_base(base, tokenizer, axes=CASES[case][0])
        fair = group_fairness(model, tokenizer, [f" {name} met"], neutral_prompts=[" one"], **settings)
        plain = group_fairness(base, tokenizer, [f" {name} met"], CASES[case][0], neutral_prompts=[" one"], **settings)
        assert fair.order == model.group.order
        assert fair.token_gap is not None and fair.token_gap.largest <= 1e-4
        assert plain.token_gap is not None and plain.token_gap.largest > 0.1

    def test_one_seed_gives_one_text(
        self, case: str, tokenizer: PreTrainedTokenizerBase, base: PreTrainedModel
    ) -> None:
        model = EquiLMForCausalLM.from_base(base, tokenizer, axes=CASES[case][0])
        name = str(CASES[case][0][-1].words[0][0])
        prompt = torch.tensor([[_token(tokenizer, word) for word in ("today", name, "met")]])
        texts: list[Any] = []
        for g in model.group.elements:
            torch.manual_seed(5)
            ids = model.action.act(prompt, g)
            texts.append(model.generate(ids, do_sample=True, max_new_tokens=8, min_new_tokens=8))
        for g in model.group.elements:
            assert related(model, prompt, texts[0], texts[g], g)

    def test_saved_and_loaded_it_is_the_same(
        self, case: str, tokenizer: PreTrainedTokenizerBase, base: PreTrainedModel, tmp_path: Path
    ) -> None:
        model = EquiLMForCausalLM.from_base(base, tokenizer, axes=CASES[case][0])
        model.save_pretrained(tmp_path)
        again: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
        assert torch.equal(again.permutation, model.permutation)
        assert again.group == model.group


@given(seed=st.integers(0, 10_000), case=st.sampled_from(sorted(CASES)), length=st.integers(1, 16))
def test_equivariant_on_any_text(
    seed: int, case: str, length: int, tokenizer: PreTrainedTokenizerBase, base: PreTrainedModel
) -> None:
    model = EquiLMForCausalLM.from_base(base, tokenizer, axes=CASES[case][0])
    assert_equivariant(model, random_ids(tokenizer, seed, 2, length))
