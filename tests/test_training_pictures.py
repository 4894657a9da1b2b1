"""Training a wrapped model that sees: LoRA with the picture encoder frozen or not, and transformers' `Trainer`."""

from pathlib import Path
from typing import Any

import pytest
import torch
from picture_words import drawn_picture, picture_processor, picture_word_model
from transformers import AutoModelForImageTextToText, TrainingArguments

from equilm import EquiLMForImageTextToText
from equilm.text import image_inputs

pytest.importorskip("accelerate", reason="needs accelerate")
peft = pytest.importorskip("peft", reason="needs peft")
from transformers import Trainer  # noqa: E402 - needs accelerate

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks
ANSWERS = [(" he", "red"), (" she", "blue")] * 4


@pytest.fixture(scope="module")
def processor() -> Any:
    return picture_processor()


def wrapped(processor: Any) -> Any:
    return EquiLMForImageTextToText.from_base(picture_word_model(processor), processor, axes=["gender"])


def rows(processor: Any) -> list[dict[str, Any]]:
    """Pictures of two colors, with answers to learn."""
    found = []
    for answer, color in ANSWERS:
        inputs = image_inputs(processor, ["the man said that"], [drawn_picture(color)], answers=[answer])
        labels = inputs["input_ids"].clone()
        labels[:, :-1] = -100  # only the answer
        found.append({**{name: value[0] for name, value in inputs.items()}, "labels": labels[0]})
    return found


def gap(model: Any, processor: Any) -> float:
    """|log P(gv|gX, picture) - log P(v|X, picture)|, the largest of all next words."""
    logits = []
    for prompt in ("the man said that", "the woman said that"):
        with torch.no_grad():
            logits.append(model(**image_inputs(processor, [prompt], [drawn_picture()])).logits[0, -1].log_softmax(-1))
    row = model.action.permutation[1]
    return float((logits[1][row[: len(logits[0])]] - logits[0]).abs().max())


def test_the_trainer_teaches_it_and_it_stays_fair(processor: Any, tmp_path: Path) -> None:
    model = wrapped(processor)
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        max_steps=6,
        learning_rate=3e-3,
        per_device_train_batch_size=4,
        remove_unused_columns=False,
        logging_steps=1,
    )
    trainer = Trainer(model, arguments, train_dataset=rows(processor))
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0]
    trained = model.eval()
    assert gap(trained, processor) < 1e-4
    trained.save_pretrained(tmp_path / "fair")
    loaded: Any = AutoModelForImageTextToText.from_pretrained(tmp_path / "fair")
    inputs = image_inputs(processor, ["the man said that"], [drawn_picture()])
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits, trained(**inputs).logits)


@pytest.mark.parametrize("frozen", [True, False])
def test_adapters(processor: Any, frozen: bool) -> None:
    model = wrapped(processor)
    targets = r".*\.language_model\.layers.*q_proj" if frozen else ["q_proj"]  # those of the encoder have the same name
    adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules=targets, r=4, task_type="CAUSAL_LM"))
    assert any("vision" in n for n, p in adapted.named_parameters() if p.requires_grad) is not frozen
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=1e-2)
    batch = {name: torch.stack([row[name] for row in rows(processor)]) for name in rows(processor)[0]}
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = adapted(**batch).loss
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert gap(model.eval(), processor) < 1e-4
