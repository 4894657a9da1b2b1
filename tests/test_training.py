"""Training the wrapped model: its gradients, transformers' `Trainer`, activation checkpointing."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from models import ARCHITECTURES, AXES, random_ids, tiny_model, wrap
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel, TrainingArguments
from transformers.modeling_layers import GradientCheckpointingLayer
from word_models import word_model, word_tokenizer

from equilm import EquiLMForCausalLM
from equilm.testing import assert_equivariant, log_prob_gap

pytest.importorskip("accelerate", reason="needs accelerate")
datasets = pytest.importorskip("datasets", reason="needs datasets")
from transformers import DataCollatorForLanguageModeling, Trainer  # noqa: E402 - needs accelerate

# Older versions of transformers call it gradient checkpointing, newer ones deprecate that name.
CHECKPOINTING = next(
    field.name.removesuffix("_kwargs")
    for field in fields(TrainingArguments)
    if field.name.endswith("checkpointing_kwargs")
)


def model_of(architecture: str = "llama", axes: str = "2x3", dtype: torch.dtype = torch.float32) -> EquiLMForCausalLM:
    """A wrapped model without dropout, which would make two runs differ."""
    base = tiny_model(architecture, dtype=dtype)
    for module in base.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return wrap(base, AXES[axes])


def rows(count: int = 16, length: int = 12, ignored: float = 0.0) -> Any:
    """Texts to train on; a part of their tokens, drawn at random, has no loss."""
    ids = random_ids(count, length)
    labels = ids.masked_fill(torch.rand(ids.shape, generator=torch.Generator().manual_seed(1)) < ignored, -100)
    return datasets.Dataset.from_dict({"input_ids": ids.tolist(), "labels": labels.tolist()})


def trainer(model: PreTrainedModel, folder: Path, data: Any = None, **settings: Any) -> Trainer:
    defaults: dict[str, Any] = {"max_steps": 6, "per_device_train_batch_size": 4, "learning_rate": 3e-3}
    quiet: dict[str, Any] = {"report_to": "none", "disable_tqdm": True, "save_strategy": "no", "logging_steps": 1}
    more = {key: settings.pop(key) for key in ("data_collator", "compute_metrics") if key in settings}
    arguments = TrainingArguments(output_dir=str(folder), use_cpu=True, **{**quiet, **defaults, **settings})
    data = rows() if data is None else data
    return Trainer(model, arguments, train_dataset=data, eval_dataset=data, **more)


def losses(of: Trainer) -> list[float]:
    return [entry["loss"] for entry in of.state.log_history if "loss" in entry]


def largest_difference(one: PreTrainedModel, other: PreTrainedModel) -> float:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


def gradients(model: PreTrainedModel, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


# Equal rows in the batch, a shared prefix, a text with one axis, one with none, one with both.
TEXTS = torch.tensor([[3, 30, 10, 33, 34, 21, 5], [3, 30, 11, 33, 34, 22, 5], [3, 30, 31, 50, 34, 41, 5]])


@pytest.mark.parametrize("axes", ["d3", "2x3"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradients_are_those_of_the_mean_over_all_copies(architecture: str, axes: str) -> None:
    model = model_of(architecture, axes)
    base, table = model.language_model, model.permutation
    mean = torch.stack([base(input_ids=row[TEXTS]).logits[..., row] for row in table]).mean(0)
    loss = torch.nn.functional.cross_entropy(mean[:, :-1].flatten(0, 1), TEXTS[:, 1:].flatten())
    expected = gradients(model, loss)
    found = gradients(model, model(input_ids=TEXTS, labels=TEXTS).loss)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-4, msg=name)
    assert max(float(gradient.abs().max()) for gradient in expected.values()) > 0.01


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2", "lfm2"])
def test_training_lowers_the_loss_and_keeps_the_guarantee(architecture: str, tmp_path: Path) -> None:
    model = model_of(architecture)
    run = trainer(model, tmp_path, max_steps=12)
    before = run.evaluate()["eval_loss"]
    run.train()
    after = run.evaluate()["eval_loss"]
    assert after < before - 0.3 and len(losses(run)) == 12
    ids = random_ids(4, 11, seed=5)
    assert_equivariant(model.eval(), ids)
    assert log_prob_gap(model, model.action, ids, prompt_length=1).max() <= 1e-4


def test_evaluation_scores_the_averaged_logits(tmp_path: Path) -> None:
    model, data, seen = model_of(), rows(ignored=0.3), []

    def metrics(prediction: Any) -> dict[str, float]:
        seen.append(torch.tensor(prediction.predictions))
        return {"rows": len(prediction.label_ids)}

    result = trainer(model, tmp_path, data, compute_metrics=metrics, per_device_eval_batch_size=16).evaluate()
    with torch.no_grad():
        expected = model(input_ids=torch.tensor(data["input_ids"]), labels=torch.tensor(data["labels"]))
    assert result["eval_loss"] == pytest.approx(float(expected.loss), abs=1e-5) and result["eval_rows"] == 16
    torch.testing.assert_close(seen[0], expected.logits, atol=1e-5, rtol=0)


def test_a_resumed_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole, resumed = model_of(), model_of()
    trainer(whole, tmp_path, save_strategy="steps", save_steps=3).train()
    checkpoint = tmp_path / "checkpoint-3"
    assert (checkpoint / "model.safetensors").exists()
    loaded = AutoModelForCausalLM.from_pretrained(checkpoint)
    assert largest_difference(loaded, whole) > 1e-3, "the second half must have changed something"
    trainer(resumed, tmp_path, save_strategy="steps", save_steps=3).train(resume_from_checkpoint=str(checkpoint))
    assert largest_difference(resumed, whole) == 0
    last: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint-6")
    assert type(last) is EquiLMForCausalLM and largest_difference(last, whole) == 0


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_accumulated_gradients_are_those_of_one_batch(architecture: str, tmp_path: Path) -> None:
    data = rows(ignored=0.6)  # the parts of a batch then differ in how many tokens count
    one, parts = model_of(architecture), model_of(architecture)
    same: dict[str, Any] = {"optim": "sgd", "learning_rate": 0.1, "max_steps": 3, "max_grad_norm": 0.0}
    large = trainer(one, tmp_path, data, per_device_train_batch_size=8, **same)
    small = trainer(parts, tmp_path, data, per_device_train_batch_size=2, gradient_accumulation_steps=4, **same)
    large.train()
    small.train()
    assert losses(small) == pytest.approx(losses(large), abs=1e-4)
    assert largest_difference(one, parts) < 1e-5 < 1e-3 < largest_difference(one, model_of(architecture))


def test_text_with_columns_the_model_does_not_know(tmp_path: Path) -> None:
    tokenizer = word_tokenizer()
    model = EquiLMForCausalLM.from_base(word_model(tokenizer), tokenizer)
    texts = ["The man worked as a doctor", "The queen was known for the nurse and a king", "The woman had a job"]
    data = datasets.Dataset.from_dict({"text": texts}).map(lambda row: tokenizer(row["text"]))
    collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    run = trainer(model, tmp_path, data, data_collator=collator, per_device_train_batch_size=3)
    assert run.label_names == ["labels"]
    run.train()
    assert losses(run)[-1] < losses(run)[0]
    assert_equivariant(model.eval(), tokenizer(texts[1], return_tensors="pt").input_ids)


@pytest.mark.parametrize("autocast", [False, True], ids=["bf16 weights", "autocast"])
@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_bfloat16(architecture: str, autocast: bool, tmp_path: Path) -> None:
    model = model_of(architecture, dtype=torch.float32 if autocast else torch.bfloat16)
    run = trainer(model, tmp_path, bf16=autocast, max_steps=10, learning_rate=1e-2)
    run.train()
    assert losses(run)[-1] < losses(run)[0] - 0.3
    assert_equivariant(model.eval(), random_ids(3, 9))


@pytest.mark.parametrize("reentrant", [False, True], ids=["saved tensors", "reentrant"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2"])
def test_activation_checkpointing_gives_the_same_gradients(
    architecture: str, reentrant: bool, caplog: pytest.LogCaptureFixture
) -> None:
    model = model_of(architecture).train()
    expected = gradients(model, model(input_ids=TEXTS, labels=TEXTS).loss)
    calls: list[int] = []
    layer = next(module for module in model.modules() if isinstance(module, GradientCheckpointingLayer))
    first = next(module for module in layer.modules() if not list(module.children()))
    first.register_forward_pre_hook(lambda *_: calls.append(1))
    getattr(model, f"{CHECKPOINTING}_enable")({"use_reentrant": reentrant})
    found = gradients(model, model(input_ids=TEXTS, labels=TEXTS, use_cache=False).loss)
    assert len(calls) == 2, "once forwards, once again backwards"
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-4, msg=name)
    assert not caplog.records


@pytest.mark.parametrize("reentrant", [False, True], ids=["saved tensors", "reentrant"])
def test_trainer_with_activation_checkpointing(reentrant: bool, tmp_path: Path) -> None:
    plain, checkpointed = model_of(), model_of()
    trainer(plain, tmp_path).train()
    settings = {CHECKPOINTING: True, f"{CHECKPOINTING}_kwargs": {"use_reentrant": reentrant}}
    trainer(checkpointed, tmp_path, **settings).train()
    assert largest_difference(plain, checkpointed) < 1e-5
    assert_equivariant(checkpointed.eval(), random_ids(3, 9))
