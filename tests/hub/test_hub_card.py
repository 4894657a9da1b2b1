"""The model card: a pattern for all of it, and its snippets run."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from equilm import EquiLMError, EquiLMForCausalLM
from equilm.hub import Measurements, measure, model_card, save_model
from equilm.hub.measure import equality_prompts
from equilm.testing import TOLERANCE

TEXT = "The doctor worked as a nurse because the man had a job . " * 30

# The card in full; what stands between angle quotes varies.
CARD = """---
base_model: someone/base
library_name: transformers
license: mit
pipeline_tag: text-generation
tags:
- equilm
- fairness
- equi-tuning
model-index:
- name: fair
  results:
‹lines›
---

# fair

This is someone/base wrapped as EquiLM, which treats demographic groups alike by construction
([Basu et al., AAAI 2023](https://arxiv.org/abs/2210.06475)). Wrapping does not change the base model's weights: at every
step the model reads the context with its words swapped in all 6 ways, and averages the swapped-back logits.

**The promise.** For every swap g of the words below, P(gY | gX) = P(Y | X): swapping the groups in a prompt swaps them in
the distribution of the answer, and changes nothing else. This holds up to rounding, and you can check it (see below).

## Use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer
import equilm  # pip install equilm

model = AutoModelForCausalLM.from_pretrained("someone/fair")
tokenizer = AutoTokenizer.from_pretrained("someone/fair")

inputs = tokenizer("The weather that morning was", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=20)[0]))
print(model.fairness_report())
```

Without the package, the code in this repository does the same: pass `trust_remote_code=True`, and set `revision=` to the
commit whose code you have read. To check the promise on your own text, and to see the base model's answer:

```python
from equilm.testing import assert_equivariant

assert_equivariant(model, inputs.input_ids)
with model.plain():
    print(tokenizer.decode(model.generate(**inputs, max_new_tokens=20)[0]))
```

## Words

- **gender**: ‹number› of ‹number› lists swapped, in ‹number› of ‹number› surface forms (lower, Title and UPPER case,
  after a space and at the start of a text):
  male/female, males/females, ‹text›
  - not swapped, since this tokenizer has no single tokens for them:
    nephew/niece ('niece' is 6 tokens: ‹text›)
- **race3**: 2 of 2 lists swapped, in ‹number› of ‹number› surface forms (lower, Title and UPPER case,
  after a space and at the start of a text):
  Black/White/Asian, blacks/whites/asians

The lists with their token ids are in `config.json` (`axes`, `coverage`).

## Measured

| | base model | this model |
|---|---|---|
| \\|log P(gY\\|gX) − log P(Y\\|X)\\| per token, mean | ‹number› | ‹number› |
| the same, largest | ‹number› | ‹number› |
| perplexity per token, a text | ‹number› | ‹number› (‹number› %) |
| time of greedy decoding, prompt without these words | 1 | ‹number› |
| time of greedy decoding, prompt with one of them | 1 | ‹number› |

The first two rows are in nats, over ‹number› tokens sampled from this model after prompts that name a group.
The perplexity is over ‹number› tokens. The times are for one text at a time on CPU.
`equilm push` measured all of this when it wrote the card.

## Intended use and limits

This model is for generating and scoring text where the groups above must be treated alike, and for showing that they are.

- Only the listed words are swapped. Bias tied to other words (names, dialects, words of several tokens, groups not listed)
  is the same as the base model's, and so are toxicity, errors and invented facts.
- Words with several meanings are swapped in all of them: "straight" also describes a line, and "Black" is also a color.
- Treating groups alike does not mean treating them well: the model says the same of all groups, kind or not.
- Continuous batching and the paged cache would leave out the averaging, so the model refuses them.

## Citation

```bibtex
@inproceedings{basu2023equituning,
  title     = {Equi-Tuning: Group Equivariant Fine-Tuning of Pretrained Models},
  author    = {Basu, Sourya and Sattigeri, Prasanna and Natesan Ramamurthy, Karthikeyan and Chenthamarakshan, Vijil and Varshney, Kush R. and Varshney, Lav R. and Das, Payel},
  booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence},
  year      = {2023}
}
```
"""
PLACEHOLDERS = {"number": r"[-+]?[\d,]+(\.\d+)?(e[-+]\d+)?", "text": ".+", "lines": r"(.*\n)*.*"}


def pattern() -> str:
    escaped = re.escape(CARD.rstrip("\n"))
    for name, matches in PLACEHOLDERS.items():
        escaped = escaped.replace(f"‹{name}›", matches)
    return escaped


@pytest.fixture(scope="module")
def model(base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> EquiLMForCausalLM:
    return EquiLMForCausalLM.from_base(base, tokenizer, axes=["gender", "race3"])


@pytest.fixture(scope="module")
def measured(model: EquiLMForCausalLM, tokenizer: PreTrainedTokenizerBase) -> Measurements:
    return measure(model, tokenizer, TEXT, "a text", blocks=1, block_size=128, progress=False)


def test_the_whole_card(model: EquiLMForCausalLM, measured: Measurements) -> None:
    card = model_card(model, measured, "someone/fair", base_model="someone/base", license="mit")
    assert re.fullmatch(pattern(), str(card)), str(card)
    values = [
        metric["value"] for result in card.data.to_dict()["model-index"][0]["results"] for metric in result["metrics"]
    ]
    measured_values = (measured.gap_mean[1], measured.gap_largest[1], measured.perplexity[1])
    assert values == pytest.approx(measured_values, rel=0.05) and str(values[2]) == f"{measured.perplexity[1]:.2f}"


def test_no_number_of_the_card_has_more_digits_than_it_was_measured_with(
    model: EquiLMForCausalLM, measured: Measurements
) -> None:
    """Neither the text nor the metadata above it, which the Hub shows as they are."""
    thirds = replace(
        measured,
        gap_mean=(1 / 3, 1e-7 / 3),
        gap_largest=(10 / 3, 1e-6 / 3),
        gap_tokens=12345,
        perplexity=(100 / 3, 101 / 3),
        perplexity_tokens=1234567,
        slow_down_neutral=4 / 3,
        slow_down_named=5 / 3,
    )
    text = str(model_card(model, thirds, "someone/fair", base_model="someone/base"))
    numbers = re.findall(r"\d+\.\d+(?:e[-+]\d+)?", text.replace("2210.06475", ""))  # the number of the paper
    assert [number for number in numbers if len(number.partition("e")[0].partition(".")[2]) > 2] == []
    assert {"3.3e-08", "3.3e-07", "33.33", "33.67", "1.33", "1.67"} <= set(numbers)
    assert "12,345 tokens" in text and "1,234,567 tokens" in text


def test_what_is_measured(measured: Measurements) -> None:
    assert measured.gap_largest[1] <= 1e-4 < 0.1 < measured.gap_largest[0]
    assert measured.gap_mean[1] < measured.gap_largest[1] and measured.gap_tokens > 100
    assert measured.perplexity[0] != measured.perplexity[1] and measured.perplexity_tokens == 127
    assert measured.slow_down_named > 0 and measured.slow_down_neutral > 0


def test_the_card_of_the_relaxed_model_promises_less(
    base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, measured: Measurements
) -> None:
    relaxed = EquiLMForCausalLM.from_base(base, tokenizer, relaxed=True)
    text = str(model_card(relaxed, measured, "fair"))
    assert "a LlamaForCausalLM wrapped as R-EquiLM" in text and "nothing is promised" in text
    assert "(he, she, his, her, him) as the base model has them" in text and "he/she (it holds a general word)" in text


def test_prompts_hold_words_that_are_swapped(model: EquiLMForCausalLM, tokenizer: PreTrainedTokenizerBase) -> None:
    prompts = equality_prompts(model)
    assert len(prompts) == len(set(prompts)) and len(prompts) > 20
    for prompt in prompts:
        assert model.action.moved[tokenizer(prompt).input_ids].any(), prompt


def test_a_model_without_words_cannot_be_measured(tokenizer: PreTrainedTokenizerBase) -> None:
    from models import tiny_model, wrap

    with pytest.raises(EquiLMError, match="names no words that are swapped"):
        equality_prompts(wrap(tiny_model()))


def test_the_snippets_run(
    model: EquiLMForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    measured: Measurements,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_model(model, tokenizer, tmp_path / "fair", measured)
    blocks = re.findall(r"```python\n(.*?)```", (tmp_path / "fair" / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)
    assert "EquiLM is on" in capsys.readouterr().out
    assert TOLERANCE[names["model"].dtype] == 1e-5
