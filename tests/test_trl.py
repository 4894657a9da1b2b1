"""TRL's trainers, which apply the head themselves: they train the fair logits, never the plain ones."""

from pathlib import Path
from typing import Any

import pytest
import torch
from models import AXES, PAD, random_ids, tiny_model, wrap
from torch import Tensor
from word_models import word_model, word_tokenizer

from equilm import EquiLMError, EquiLMForCausalLM
from equilm.testing import assert_equivariant

datasets = pytest.importorskip("datasets", reason="needs datasets")
trl = pytest.importorskip("trl", reason="needs trl")

pytestmark = pytest.mark.filterwarnings("default")  # TRL's own

QUIET: dict[str, Any] = {
    "report_to": "none",
    "disable_tqdm": True,
    "save_strategy": "no",
    "logging_steps": 1,
    "use_cpu": True,
    "per_device_train_batch_size": 2,
    "bf16": False,
    "seed": 0,
}
TEXTS = [("The man said", " he was a husband"), ("The woman", " said she walked"), ("They said", " men are kings")]


def definition(model: EquiLMForCausalLM, ids: Tensor, mask: Tensor) -> Tensor:
    """The mean over g of the base model's own log-probabilities' logits, without any of equilm's forward pass."""
    base, table = model.language_model, model.permutation
    return torch.stack([base(input_ids=row[ids], attention_mask=mask).logits[..., row] for row in table]).mean(0)


def log_probs(logits: Tensor, ids: Tensor) -> Tensor:
    return logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]  # (B, T - 1)


def fair_model(padding: int = 0) -> tuple[EquiLMForCausalLM, Any]:
    tokenizer = word_tokenizer()
    return EquiLMForCausalLM.from_base(word_model(tokenizer, padding=padding), tokenizer), tokenizer


def saved_and_loaded(folder: Path) -> tuple[EquiLMForCausalLM, Any]:
    """A model whose name is a folder of the fair model, from which TRL loads a reference model."""
    model, tokenizer = fair_model()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return EquiLMForCausalLM.from_pretrained(folder), tokenizer


def by_hand(model: EquiLMForCausalLM, inputs: dict[str, Tensor], fair: bool) -> Tensor:
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    logits = definition(model, ids, mask) if fair else model.language_model(input_ids=ids, attention_mask=mask).logits
    return log_probs(logits, ids)


def first_inputs(trainer: Any) -> dict[str, Tensor]:
    return dict(next(iter(trainer.get_train_dataloader())))


@pytest.mark.parametrize("relaxed", [False, True])
@pytest.mark.parametrize("axes", sorted(AXES))
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma3", "lfm2"])
def test_hidden_states_times_the_head_are_the_fair_logits(architecture: str, axes: str, relaxed: bool) -> None:
    general = [AXES[axes][0][0][0]] if relaxed and len(AXES[axes][0]) > 1 else []
    model = wrap(tiny_model(architecture), AXES[axes], general, relaxed=bool(general))
    ids = random_ids(3, 9)
    ids[0, :2] = PAD
    mask = (ids != PAD).long()
    with torch.no_grad():
        hidden = model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
        head = model.get_output_embeddings()
        product = torch.nn.functional.linear(hidden, head.weight, head.bias)
        expected = model(input_ids=ids, attention_mask=mask).logits
    torch.testing.assert_close(product[mask.bool()], expected[mask.bool()], atol=1e-4, rtol=1e-4)
    assert model.get_output_embeddings() is model.language_model.get_output_embeddings()


def test_a_head_that_is_not_linear_is_refused() -> None:
    model = wrap(tiny_model("gemma2"))  # its logits have a soft cap
    with pytest.raises(EquiLMError, match="Gemma2ForCausalLM are not those of a linear head"):
        model.base_model(input_ids=random_ids(1, 4))


def test_the_plain_decoder_is_not_at_hand() -> None:
    model = wrap(tiny_model("llama"))
    assert model.get_decoder()(random_ids(1, 4)).last_hidden_state.shape[-1] > model.language_model.config.hidden_size
    with model.plain():
        assert model.base_model is model.language_model


@pytest.mark.slow
def test_sft(tmp_path: Path) -> None:
    model, tokenizer = fair_model()
    data = datasets.Dataset.from_dict({"text": [prompt + answer for prompt, answer in TEXTS * 4]})
    arguments = trl.SFTConfig(str(tmp_path), max_steps=3, learning_rate=1e-2, **QUIET)
    trainer = trl.SFTTrainer(model, arguments, train_dataset=data, processing_class=tokenizer)
    inputs = first_inputs(trainer)
    mask = inputs["labels"][:, 1:] != -100
    loss = trainer.compute_loss(model, dict(inputs))
    found = [-(by_hand(model, inputs, fair) * mask).sum() / mask.sum() for fair in (True, False)]
    torch.testing.assert_close(loss, found[0], atol=1e-5, rtol=1e-5)
    assert abs(loss - found[1]) > 1e-2, "this is the plain model's loss"
    expected = torch.autograd.grad(found[0], list(model.parameters()), allow_unused=True)
    gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 3 and losses[-1] < losses[0]
    assert_equivariant(model.eval(), inputs["input_ids"])


@pytest.mark.slow
@pytest.mark.parametrize("reference", ["given", "loaded"])
def test_dpo(reference: str, tmp_path: Path) -> None:
    model, tokenizer = fair_model() if reference == "given" else saved_and_loaded(tmp_path / "fair")
    given = fair_model()[0] if reference == "given" else None
    rows = {"prompt": [p for p, _ in TEXTS], "chosen": [a for _, a in TEXTS], "rejected": [" her"] * len(TEXTS)}
    arguments = trl.DPOConfig(str(tmp_path), max_steps=2, learning_rate=1e-2, **QUIET)
    data = datasets.Dataset.from_dict(rows)
    trainer = trl.DPOTrainer(model, given, args=arguments, train_dataset=data, processing_class=tokenizer)
    assert isinstance(trainer.ref_model, EquiLMForCausalLM)
    with torch.no_grad():
        weight: Any = model.get_input_embeddings().weight
        weight += 0.2 * torch.randn_like(weight)
    inputs = first_inputs(trainer)
    mask = inputs["completion_mask"][:, 1:]

    def dpo(fair: bool) -> Tensor:
        of = [(by_hand(one, inputs, fair) * mask).sum(1).chunk(2) for one in (model, trainer.ref_model)]
        (chosen, rejected), (chosen_before, rejected_before) = of
        return -torch.nn.functional.logsigmoid(0.1 * (chosen - chosen_before - rejected + rejected_before)).mean()

    loss = trainer.compute_loss(model, dict(inputs))
    torch.testing.assert_close(loss, dpo(True), atol=1e-5, rtol=1e-5)
    assert abs(loss - dpo(False)) > 1e-3, "this is the plain model's loss"
    trainer.train()
    assert_equivariant(model.eval(), inputs["input_ids"])


@pytest.mark.slow
def test_grpo(tmp_path: Path) -> None:
    model, tokenizer = saved_and_loaded(tmp_path / "fair")
    seen: list[Any] = []

    def reward(completions: list[str], **kwargs: Any) -> list[float]:
        seen.extend(completions)
        return [float(len(text)) for text in completions]

    arguments = trl.GRPOConfig(
        str(tmp_path), max_steps=2, learning_rate=1e-3, num_generations=2, max_completion_length=6, beta=0.1, **QUIET
    )
    data = datasets.Dataset.from_dict({"prompt": [prompt for prompt, _ in TEXTS * 2]})
    trainer = trl.GRPOTrainer(model, reward, args=arguments, train_dataset=data, processing_class=tokenizer)
    assert isinstance(trainer.ref_model, EquiLMForCausalLM)
    ids = random_ids(2, 8) % len(tokenizer)
    mask = torch.ones_like(ids)
    with torch.no_grad():
        found = trainer._get_per_token_logps_and_entropies(model, ids, mask, logits_to_keep=4)[0]
        inputs = {"input_ids": ids, "attention_mask": mask}
        fair, plain = (by_hand(model, inputs, fair)[:, -4:] for fair in (True, False))
    torch.testing.assert_close(found, fair, atol=1e-4, rtol=1e-4)
    assert (found - plain).abs().max() > 1e-2, "these are the plain model's"
    trainer.train()
    assert len(seen) >= 4
    assert_equivariant(model.eval(), ids)
