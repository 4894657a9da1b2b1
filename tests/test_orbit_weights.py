"""λ-equitune: the weighted mean is the definition's, equivariant whatever λ is, trains, and is saved and loaded."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from models import AXES, random_ids, stabilizer, tiny_model
from reader_models import tables, tiny_reader
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
from transformers.dynamic_module_utils import get_class_from_dynamic_module
from word_models import word_model, word_tokenizer

from equilm import EquiLMConfig, EquiLMError, EquiLMForCausalLM, EquiLMForSequenceClassification
from equilm._compat import CACHE, cache_of
from equilm.actions import TrivialAction
from equilm.groups import CyclicGroup
from equilm.symmetrize import LearnedWeights, reynolds
from equilm.testing import assert_equivariant, log_prob_gap

ARCHITECTURES = ("gpt2", "llama", "gemma2", "lfm2")  # gemma2's logits are no linear head of its hidden states
GROUPS = ("d2", "d3", "2x3")


def wrap(base: Any, axes: str = "d2", weights: Any = None, **settings: Any) -> EquiLMForCausalLM:
    """EquiLM with λ: learned, its parameters drawn large, or given."""
    kind = "learned" if weights is None else "given"
    config = cast(Any, EquiLMConfig)(
        text_config=base.config.to_dict(), cycles=AXES[axes], orbit_weights=kind, **settings
    )
    model = EquiLMForCausalLM(config, base, **({} if weights is None else {"weights": weights})).eval()
    if weights is None:
        with torch.no_grad():
            model.orbit_weights.weight.normal_(std=0.8)
            model.orbit_weights.bias.fill_(0.3)
    return model


@torch.no_grad()
def defined(model: EquiLMForCausalLM, axes: str, ids: Tensor) -> Tensor:
    """Σ_g λ(g·x) M(g·x)[g·v] / Σ_g λ(g·x), with no wrapper: float64, shape ``(B, T, V)``."""
    total, counts = 0.0, 0.0
    for row in tables(axes):
        outputs = cast(Any, model.language_model)(input_ids=row[ids], use_cache=False, output_hidden_states=True)
        weights = model.orbit_weights(outputs.hidden_states[-1]).double()[..., None]
        total = total + weights * outputs.logits.double()[..., row]
        counts = counts + weights
    return cast(Tensor, total) / cast(Tensor, counts)


@pytest.mark.parametrize("axes", GROUPS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_the_definition_and_equivariance(architecture: str, axes: str) -> None:
    model = wrap(tiny_model(architecture), axes)
    for seed in range(2):
        ids = random_ids(3, 10, seed=seed)
        logits = model(input_ids=ids).logits
        size = float(logits.abs().max())
        torch.testing.assert_close(logits.double(), defined(model, axes, ids), rtol=0, atol=2e-5 * size)
        assert_equivariant(model, ids)
    assert float(log_prob_gap(model, model.action, ids, prompt_length=1).max()) <= 1e-3
    weights, model.orbit_weights = model.orbit_weights, None
    assert float((model(input_ids=ids).logits - logits).abs().max()) > 0.05  # they matter
    model.orbit_weights = weights
    assert "passed" in str(model.self_check())
    assert "weighted by λ" in str(model.fairness_report())


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
@torch.no_grad()
def test_caches_relaxed_and_bfloat16(architecture: str) -> None:
    model = wrap(tiny_model(architecture), "2x3")
    ids = random_ids(2, 12)
    model._worth_a_pass = 1
    whole = model(input_ids=ids).logits
    first = model(input_ids=ids[:, :7], logits_to_keep=1, use_cache=True)
    more = model(input_ids=ids[:, 7:], use_cache=True, **{CACHE: cache_of(first)})
    torch.testing.assert_close(first.logits, whole[:, 6:7], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(more.logits, whole[:, 7:], rtol=1e-3, atol=1e-3)

    base = tiny_model(architecture)
    relaxed = wrap(base, "d3", relaxed=True, general_ids=[40, 41])
    logits = relaxed(input_ids=ids).logits
    expected = defined(relaxed, "d3", ids)
    expected[..., [40, 41]] = cast(Any, base)(input_ids=ids, use_cache=False).logits[..., [40, 41]].double()
    torch.testing.assert_close(logits.double(), expected, rtol=0, atol=2e-5 * float(expected.abs().max()))

    assert_equivariant(wrap(tiny_model(architecture, dtype=torch.bfloat16), "d3"), ids)


def test_one_seed_gives_the_swapped_text() -> None:
    model = wrap(tiny_model("llama"), "2x3")
    ids = torch.tensor([[40, 10, 30, 21, 50]])
    assert stabilizer(model, ids) == [0]
    for g in model.group.elements:
        texts = []
        for prompt in (ids, model.action.act(ids, g)):
            torch.manual_seed(5)
            texts.append(model.generate(prompt, do_sample=True, max_new_tokens=12, attention_mask=torch.ones_like(ids)))
        assert torch.equal(model.action.act(cast(Tensor, texts[0]), g), cast(Tensor, texts[1]))


class Largest(nn.Module):
    """A λ of one's own: the largest entry of the hidden state."""

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden.float().abs().amax(-1)


@torch.no_grad()
def test_given_saved_and_loaded(tmp_path: Path) -> None:
    tokenizer = word_tokenizer()
    ids = tokenizer("The man worked as a king", return_tensors="pt").input_ids
    for name, weights in (("learned", "learned"), ("given", Largest())):
        model = EquiLMForCausalLM.from_base(word_model(tokenizer), tokenizer, weights=weights)
        even = EquiLMForCausalLM.from_base(word_model(tokenizer), tokenizer)
        if name == "learned":  # from equal weights on
            torch.testing.assert_close(model(input_ids=ids).logits, even(input_ids=ids).logits, rtol=1e-4, atol=1e-4)
            nn.init.normal_(model.orbit_weights.weight)
        assert float((model(input_ids=ids).logits - even(input_ids=ids).logits).abs().max()) > 1e-3
        assert_equivariant(model, ids)
        model.save_pretrained(tmp_path / name)
        given = {} if name == "learned" else {"weights": weights}
        remote: Any = get_class_from_dynamic_module("modeling_equilm.EquiLMForCausalLM", str(tmp_path / name))
        for loaded in (AutoModelForCausalLM, remote):
            again = cast(Any, loaded).from_pretrained(tmp_path / name, **given)
            assert torch.equal(again(input_ids=ids).logits, model(input_ids=ids).logits)
            assert "passed" in str(again.self_check())
    with pytest.raises(EquiLMError, match="orbit_weights is 'given', and weights is a NoneType"):
        AutoModelForCausalLM.from_pretrained(tmp_path / "given")


def test_trained_by_trainer(tmp_path: Path) -> None:
    model = wrap(tiny_model("llama"), "d3")
    with torch.no_grad():
        model.orbit_weights.weight.zero_()
        model.orbit_weights.bias.zero_()
    model.language_model.requires_grad_(False)
    ids = random_ids(16, 10)
    settings = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=20,
        per_device_train_batch_size=16,
        learning_rate=0.05,
        report_to=[],
        use_cpu=True,
        logging_steps=1,
    )
    trainer = Trainer(model, settings, train_dataset=[{"input_ids": row, "labels": row} for row in ids])
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0] - 1e-3
    assert float(model.orbit_weights.weight.detach().abs().max()) > 0.01
    assert_equivariant(model.eval(), ids)


def test_trainers_that_apply_the_head_themselves() -> None:
    """As TRL's do: hidden states of base_model times the weight of the output embeddings."""
    model = wrap(tiny_model("llama"), "2x3")
    ids = random_ids(2, 8)
    hidden = model.base_model(input_ids=ids).last_hidden_state
    head = model.get_output_embeddings()
    torch.testing.assert_close(hidden @ head.weight.T, model(input_ids=ids).logits, rtol=1e-4, atol=1e-4)


def test_what_is_refused() -> None:
    ids = random_ids(1, 5)
    for wrong in (lambda h: h[..., 0] - 100, lambda h: h[..., 0] * 0, lambda h: h[..., 0] * float("nan")):
        with pytest.raises(EquiLMError, match="must be finite, none negative and not all 0"):
            wrap(tiny_model(), weights=wrong)(input_ids=ids)
    with pytest.raises(EquiLMError, match=r"into weights of shape \(2, 5, 32\): expected \(2, 5\)"):
        wrap(tiny_model(), weights=lambda h: h)(input_ids=torch.tensor([[30, 10, 30, 30, 30]]))
    tokenizer = word_tokenizer()
    with pytest.raises(EquiLMError, match="weights='more' is not known"):
        EquiLMForCausalLM.from_base(word_model(tokenizer), tokenizer, weights="more")
    with pytest.raises(EquiLMError, match="EquiLMForSequenceClassification takes no weights"):
        EquiLMForSequenceClassification.from_base(tiny_reader("bert"), tokenizer, weights="learned")
    config = cast(Any, EquiLMConfig)(text_config=tiny_reader("bert").config, cycles=AXES["d2"], orbit_weights="learned")
    with pytest.raises(EquiLMError, match="averages over the group without weights"):
        EquiLMForSequenceClassification(config)


def test_the_operator_with_weights_of_any_shape() -> None:
    group = CyclicGroup(3)
    outputs, weights = torch.randn(3, 2, 4, 5, dtype=torch.float64), torch.rand(3, 2, 4, dtype=torch.float64)
    expected = (weights[..., None] * outputs).sum(0) / weights.sum(0)[..., None]
    torch.testing.assert_close(reynolds(outputs, TrivialAction(group), weights), expected)
    learned = LearnedWeights(5)
    assert torch.equal(learned(outputs), learned(outputs)[0, 0, 0].expand(3, 2, 4))
    low = LearnedWeights(5)
    nn.init.constant_(low.bias, -1e4)
    assert (low(outputs) > 0).all()
