"""`equilm check` on every kind of model: each fails plain and passes wrapped, and its figures are the definition's."""

import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import torch
from picture_words import saved_picture_model
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    T5Config,
    T5ForConditionalGeneration,
)
from word_models import word_tokenizer

from equilm import EquiLMForMaskedLM, EquiLMForSeq2SeqLM, EquiLMForSequenceClassification
from equilm.cli.main import main
from equilm.metrics.gate import check_prompts
from equilm.metrics.group_fairness import own_action

pytestmark = pytest.mark.slow  # tests/cli/test_cli_check.py has the usual kind
SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "_static" / "check.schema.json").read_text("utf-8"))
PROMPTS = ("the man was late", "it was a<mask>")
FAST = ("--num-continuations", "2", "--max-new-tokens", "4", "--quiet")


def with_mask() -> PreTrainedTokenizerBase:
    tokenizer = word_tokenizer()
    tokenizer.add_special_tokens({"mask_token": "<mask>"})
    return tokenizer


def base(kind: str, **settings: Any) -> PreTrainedModel:
    """A tiny random model."""
    tokenizer = with_mask()
    torch.manual_seed(0)
    pad: Any = tokenizer.pad_token_id
    if kind == "encoder-decoder":
        sizes: dict[str, Any] = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 1, "num_heads": 4}
        special = {"pad_token_id": pad, "decoder_start_token_id": pad, "eos_token_id": tokenizer.eos_token_id}
        config: Any = T5Config(vocab_size=len(tokenizer), initializer_factor=2.0, **sizes, **special)
        return T5ForConditionalGeneration(config).eval()
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = BertConfig(vocab_size=len(tokenizer), initializer_range=0.4, pad_token_id=pad, **sizes, **settings)
    classes: dict[str, Any] = {
        "masked": BertForMaskedLM,
        "classifier": BertForSequenceClassification,
        "encoder": BertModel,
    }
    return classes[kind](config).eval()


def save(model: PreTrainedModel, folder: Path) -> str:
    model.save_pretrained(folder)
    with_mask().save_pretrained(folder)
    return str(folder)


WRAPPERS: dict[str, Any] = {
    "encoder-decoder": EquiLMForSeq2SeqLM,
    "masked": EquiLMForMaskedLM,
    "classifier": EquiLMForSequenceClassification,
}


@pytest.mark.parametrize("kind", WRAPPERS)
def test_a_plain_model_fails_and_a_wrapped_one_passes(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "check.json"
    plain = save(base(kind), tmp_path / "plain")
    wrapper = WRAPPERS[kind].from_base(plain)
    wrapper.save_pretrained(tmp_path / "wrapped")
    with_mask().save_pretrained(tmp_path / "wrapped")
    for arguments, code in (
        (("--model", plain), 1),
        (("--model", str(tmp_path / "wrapped")), 0),
    ):
        assert main(["check", *PROMPTS, *arguments, *FAST, "--json", str(written)]) == code
        out = capsys.readouterr().out
        assert out.startswith("PASS" if code == 0 else "FAIL")
        result = json.loads(written.read_text("utf-8"))
        jsonschema.validate(result, SCHEMA, jsonschema.Draft202012Validator)
        assert result["judged"]["kind"] == kind
        named, neutral = result["judged"]["prompts"]
        assert named["parity"] is None and (neutral["parity"] is None) == (kind == "classifier")
        assert named["gap"] > 0.01 if code else named["gap"] < 1e-4


def test_a_kind_that_cannot_be_checked_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save(base("encoder"), tmp_path)
    capsys.readouterr()  # the progress of saving
    assert main(["check", "the man", "--model", folder, *FAST]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "BertModel" in line and "is not a causal, encoder-decoder or masked language model" in line


def test_a_classifier_needs_prompts_that_name_a_group(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "it was a", "--model", save(base("classifier"), tmp_path), *FAST]) == 2
    assert "None of the 1 prompts contains a word of gender" in capsys.readouterr().err


def measured(kind: str, prompt: str, axes: list[str], **settings: Any) -> tuple[Any, Any, Any]:
    """What is measured of a plain model, the wrapped model's action, and the plain model."""
    tokenizer, model = with_mask(), base(kind, **settings)
    fair: Any = WRAPPERS[kind].from_base(model, tokenizer, axes=axes)
    action: Any = own_action(fair, tokenizer)
    (found,) = check_prompts(model, tokenizer, action, [prompt], name="x", kind=kind).prompts  # type: ignore[arg-type]
    return found, action, model


@torch.no_grad()
def test_the_gap_and_the_parity_of_a_masked_model() -> None:
    found, action, model = measured("masked", "it was a<mask>", ["gender", "race3"])
    ids = with_mask()("it was a<mask>", return_tensors="pt").input_ids
    log_probs = model(ids).logits[0, ids[0] == with_mask().mask_token_id][0].log_softmax(-1)
    moved = action.moved.nonzero().flatten()
    every = max(float((log_probs[action.act(moved, g)] - log_probs[moved]).abs().max()) for g in action.group.elements)
    assert found.gap == pytest.approx(every, abs=1e-4) and found.parity == pytest.approx(every, abs=1e-4)

    found, action, model = measured("masked", "the man was a<mask>", ["gender", "race3"])
    ids = with_mask()("the man was a<mask>", return_tensors="pt").input_ids
    gaps = []
    for g in action.group.elements:
        image = model(action.act(ids, g)).logits[0, -1].log_softmax(-1)
        every_token = torch.arange(len(image))
        gaps.append(float((image[action.act(every_token, g)] - model(ids).logits[0, -1].log_softmax(-1)).abs().max()))
    assert found.gap == pytest.approx(max(gaps), abs=1e-4) and found.gap > 0.1 and found.parity is None


@torch.no_grad()
@pytest.mark.parametrize(
    ("settings", "scores"),
    [
        ({"num_labels": 3}, lambda logits: logits.log_softmax(-1)),
        ({"num_labels": 1}, lambda logits: logits),
        ({"num_labels": 2, "problem_type": "regression"}, lambda logits: logits),
        (
            {"num_labels": 2, "problem_type": "multi_label_classification"},
            lambda logits: torch.cat([logits.sigmoid().log(), (1 - logits.sigmoid()).log()]),
        ),
    ],
    ids=["labels", "reward", "regression", "several labels"],
)
def test_the_gap_of_a_classifier(settings: dict[str, Any], scores: Any) -> None:
    found, action, model = measured("classifier", "the Black man was late", ["gender", "race3"], **settings)
    ids = with_mask()("the Black man was late", return_tensors="pt").input_ids
    images = [scores(model(action.act(ids, g)).logits[0].double()) for g in action.group.elements]
    assert found.gap == pytest.approx(max(float((image - images[0]).abs().max()) for image in images), abs=1e-5)
    assert found.gap > 0.01


@torch.no_grad()
def test_the_parity_of_an_encoder_decoder_is_that_of_its_first_word() -> None:
    found, action, model = measured("encoder-decoder", "it was a", ["gender", "race3"])
    ids = with_mask()("it was a", return_tensors="pt").input_ids
    start = torch.tensor([[model.config.decoder_start_token_id]])
    log_probs = model(input_ids=ids, decoder_input_ids=start).logits[0, -1].log_softmax(-1)
    moved = action.moved.nonzero().flatten()
    every = max(float((log_probs[action.act(moved, g)] - log_probs[moved]).abs().max()) for g in action.group.elements)
    assert found.parity == pytest.approx(every, abs=1e-4) and found.gap > 0.01


def test_a_model_that_sees_is_checked_on_its_text(tmp_path: Path) -> None:
    folder = saved_picture_model(tmp_path)
    assert main(["check", "the man was late", "--model", folder, *FAST]) == 1
    assert main(["check", "the man was late", "--model", folder, "--wrap", *FAST]) == 0
