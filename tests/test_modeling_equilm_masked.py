"""Masked language models: the definition, equivariance, losses, saving, the fill-mask pipeline, what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from models import VOCAB, random_ids
from reader_models import FIRST_TOKEN, masked_of, padded, tables, tiny_reader
from small_tokenizers import uncased
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import Tensor
from transformers import AutoModelForMaskedLM, pipeline
from transformers.dynamic_module_utils import get_class_from_dynamic_module

from equilm import DemographicAxis, EquiLMError, EquiLMForMaskedLM, EquiLMWarning
from equilm.testing import assert_equivariant

GROUPS = ("d2", "d3", "d4", "2x3")


@torch.no_grad()
def defined(base: Any, axes: str, ids: Tensor, mask: Tensor | None = None) -> Tensor:
    """1/|G| Σ_g M(g·x)[g·v], with no wrapper: shape ``(B, T, V)``."""
    images = [base(input_ids=row[ids], attention_mask=mask).logits[..., row].double() for row in tables(axes)]
    return torch.stack(images).mean(0)


@pytest.mark.parametrize("axes", GROUPS)
@pytest.mark.parametrize("architecture", FIRST_TOKEN)
@torch.no_grad()
def test_the_definition_and_whole_orbits(architecture: str, axes: str) -> None:
    base = tiny_reader(architecture, masked=True)
    model = masked_of(base, axes)
    for seed in range(3):
        ids = random_ids(3, 11, seed=seed)
        logits = model(input_ids=ids).logits
        size = float(logits.abs().max())
        torch.testing.assert_close(logits.double(), defined(base, axes, ids), rtol=0, atol=1e-5 * size)
        for row in tables(axes):
            image, plain = model(input_ids=row[ids]).logits[..., row], base(input_ids=row[ids]).logits[..., row]
            assert float((image - logits).abs().max()) <= 1e-5 * size
            assert torch.equal(row, tables(axes)[0]) or float((plain - logits).abs().max()) > 0.05
        assert_equivariant(model, ids)


@pytest.mark.parametrize("architecture", FIRST_TOKEN)
@torch.no_grad()
def test_bfloat16(architecture: str) -> None:
    base = tiny_reader(architecture, masked=True, dtype=torch.bfloat16)
    model = masked_of(base, "2x3")
    ids = random_ids(2, 9)
    assert_equivariant(model, ids)
    expected = defined(base, "2x3", ids)
    logits = model(input_ids=ids).logits
    assert logits.dtype == torch.bfloat16
    assert float((logits.double() - expected).abs().max()) <= 0.05 * float(expected.abs().max())
    assert "passed" in str(model.self_check())


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("architecture", FIRST_TOKEN)
@torch.no_grad()
def test_padding_on_either_side(architecture: str, side: str) -> None:
    base = tiny_reader(architecture, masked=True)
    model = masked_of(base, "d3")
    ids, mask = padded([random_ids(1, length, seed=length)[0] for length in (5, 9, 7)], side)
    logits = model(input_ids=ids, attention_mask=mask).logits
    error = (logits.double() - defined(base, "d3", ids, mask)).abs()
    assert float((error * mask[..., None]).max()) <= 1e-5 * float(logits.abs().max())


@torch.no_grad()
def test_relaxed_keeps_the_general_words() -> None:
    base = tiny_reader("bert", masked=True)
    general = [12, 30]  # 12 is in a list, which then is fixed as a whole
    model = masked_of(base, "d2", relaxed=True, general_ids=general)
    ids = random_ids(3, 9)
    row = torch.arange(VOCAB)
    row[[10, 11, 14, 15]] = torch.tensor([11, 10, 15, 14])
    expected = (base(input_ids=ids).logits + base(input_ids=row[ids]).logits[..., row]) / 2
    expected[..., general] = base(input_ids=ids).logits[..., general]
    torch.testing.assert_close(model(input_ids=ids).logits, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert "passed" in str(model.self_check())
    assert "general words" in str(model.fairness_report())


def test_loss_plain_and_tuple() -> None:
    base = tiny_reader("modernbert", masked=True)
    model = masked_of(base)
    ids = random_ids(3, 9)
    labels = torch.where(torch.rand(ids.shape) < 0.4, ids, -100)
    output = model(input_ids=ids, labels=labels)
    expected = torch.nn.functional.cross_entropy(output.logits.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(output.loss, expected)
    row = tables("d2")[1]
    swapped = model(input_ids=row[ids], labels=torch.where(labels >= 0, row[labels.clamp(min=0)], -100)).loss
    torch.testing.assert_close(swapped, output.loss, rtol=1e-5, atol=1e-5)
    counted = model(input_ids=ids, labels=labels, num_items_in_batch=torch.tensor(1)).loss
    torch.testing.assert_close(counted, expected * (labels >= 0).sum())
    output.loss.backward()
    with torch.no_grad(), model.plain():
        plain = model(input_ids=ids, labels=labels)
    torch.testing.assert_close(plain.loss, base(input_ids=ids, labels=labels).loss)
    assert torch.equal(plain.logits, base(input_ids=ids).logits)
    assert isinstance(model(input_ids=ids, return_dict=False), tuple)


def word_model() -> tuple[EquiLMForMaskedLM, Any]:
    """A masked model with words, from `from_base`, and its tokenizer."""
    words = [word for entry in DemographicAxis.load("gender").words for word in entry]
    neutral = "the worked as a doctor nurse king was late [MASK] [PAD]".split()
    tokenizer: Any = uncased(list(dict.fromkeys([*words, *neutral])), split=False)
    tokenizer.backend_tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.add_special_tokens({"mask_token": "[MASK]", "pad_token": "[PAD]"})
    base = tiny_reader("bert", masked=True)
    base.resize_token_embeddings(len(tokenizer))
    return EquiLMForMaskedLM.from_base(base, tokenizer, axes=["gender"]), tokenizer


def test_saved_loaded_and_in_the_pipeline(tmp_path: Path) -> None:
    model, tokenizer = word_model()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    ids = tokenizer("the man worked as a [MASK]", return_tensors="pt").input_ids
    loaded: Any = AutoModelForMaskedLM.from_pretrained(tmp_path)
    remote: Any = get_class_from_dynamic_module("modeling_equilm_masked.EquiLMForMaskedLM", str(tmp_path))
    assert isinstance(loaded, EquiLMForMaskedLM) and remote is not EquiLMForMaskedLM
    for other in (loaded, remote.from_pretrained(tmp_path)):
        assert torch.equal(other(input_ids=ids).logits, model(input_ids=ids).logits)
    fill: Any = pipeline("fill-mask", model=loaded, tokenizer=tokenizer)
    texts, targets = ["the man was a [MASK]", "the woman was a [MASK]"], ["king", "queen", "nurse"]
    man, woman = ({entry["token_str"]: entry["score"] for entry in fill(text, targets=targets)} for text in texts)
    assert man["king"] == pytest.approx(woman["queen"], rel=1e-4) and man["nurse"] == pytest.approx(
        woman["nurse"], rel=1e-4
    )
    with loaded.plain():
        plain = {entry["token_str"]: entry["score"] for entry in fill(texts[1], targets=targets)}
    assert plain["queen"] != pytest.approx(man["king"], rel=1e-2)


def test_what_is_refused() -> None:
    model = masked_of(tiny_reader("bert", masked=True))
    with pytest.raises(EquiLMError, match="generates none"):
        model.generate(random_ids(1, 4))
    with pytest.raises(EquiLMError, match="inputs_embeds cannot be permuted"):
        model(inputs_embeds=torch.zeros(1, 4, 32))
    with pytest.raises(EquiLMError, match="BertForSequenceClassification is not a masked language model"):
        EquiLMForMaskedLM.from_base(tiny_reader("bert"), word_model()[1])
    with pytest.raises(EquiLMError, match="LlamaForSequenceClassification is not a masked language model"):
        EquiLMForMaskedLM.from_base(tiny_reader("llama"), word_model()[1])


def test_the_self_check_sees_a_wrong_column() -> None:
    model = masked_of(tiny_reader("bert", masked=True))
    right = model._mean_logits

    def wrong(row_logits: Tensor, rows: Any) -> Tensor:
        logits = right(row_logits, rows).clone()
        logits[..., 10] += 1 if model._shares_rows else 0
        return logits

    model._mean_logits = wrong  # type: ignore[method-assign]
    with pytest.warns(EquiLMWarning, match="wrong with sharing rows"):
        model.self_check()
    model._mean_logits = lambda row_logits, rows: row_logits[rows.branches[0]]  # type: ignore[method-assign]
    with pytest.raises(EquiLMError, match="BertForMaskedLM in an EquiLMForMaskedLM"):
        model.self_check()
