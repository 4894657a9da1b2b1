"""TRL: a reward model trained in RewardTrainer, and GRPO, reward a text and its swap alike at every step."""

from typing import Any

import pytest
import torch
from reader_models import tiny_reader
from word_models import word_model, word_tokenizer

from equilm import EquiLMForCausalLM, EquiLMForSequenceClassification, TextSymmetrizer
from equilm.text import invariant_reward

datasets = pytest.importorskip("datasets", reason="needs datasets")
trl = pytest.importorskip("trl", reason="needs trl")
from transformers import TrainerCallback  # noqa: E402

pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.slow]  # TRL's own warnings

STEPS = 20
QUIET: dict[str, Any] = {
    "report_to": "none",
    "disable_tqdm": True,
    "save_strategy": "no",
    "use_cpu": True,
    "bf16": False,
    "seed": 0,
    "max_steps": STEPS,
    "gradient_checkpointing": False,
}
TEXTS = ["The man worked as a king", "The queen was late because she", "The doctor said he was late", "They are women"]


def reward_model() -> tuple[EquiLMForSequenceClassification, Any]:
    """An invariant reward model on a tiny Llama without a padding token, which TRL sets, and its tokenizer."""
    tokenizer = word_tokenizer()
    base: Any = tiny_reader("llama", num_labels=1)
    base.resize_token_embeddings(len(tokenizer))
    base.config.pad_token_id = None
    return EquiLMForSequenceClassification.from_base(base, tokenizer, axes=["gender"]), tokenizer


@torch.no_grad()
def rewards(model: Any, tokenizer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The rewards of the texts and of their swaps, each text by itself."""
    model.eval()
    ids = [tokenizer(text, return_tensors="pt").input_ids for text in TEXTS]
    swapped = [model.action.act(row, 1) for row in ids]
    own, other = (torch.cat([model(input_ids=row).logits[:, 0] for row in rows]) for rows in (ids, swapped))
    return own, other


class Watch(TrainerCallback):
    """Compares the rewards of texts and swaps after every step."""

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer
        self.seen: list[torch.Tensor] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        own, other = rewards(kwargs["model"], self.tokenizer)
        assert float((own - other).abs().max()) <= 1e-6
        self.seen.append(own)
        kwargs["model"].train()


def test_reward_trainer(tmp_path: Any) -> None:
    model, tokenizer = reward_model()
    pairs = datasets.Dataset.from_dict({"chosen": TEXTS * 2, "rejected": [text[::-1] for text in TEXTS * 2]})
    watch = Watch(tokenizer)
    settings = trl.RewardConfig(
        output_dir=str(tmp_path), **QUIET, learning_rate=1e-3, logging_steps=1, per_device_train_batch_size=2
    )
    trainer = trl.RewardTrainer(
        model=model, args=settings, train_dataset=pairs, processing_class=tokenizer, callbacks=[watch]
    )
    trainer.train()
    assert len(watch.seen) == STEPS and not torch.allclose(watch.seen[0], watch.seen[-1])
    assert model.language_model.config.pad_token_id == tokenizer.pad_token_id
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert sum(losses[-4:]) < sum(losses[:4])
    with model.plain():
        own, other = rewards(model, tokenizer)
        assert float((own - other).abs().max()) > 1e-3


@pytest.mark.parametrize("fair_policy", [True, False])
def test_grpo(fair_policy: bool, tmp_path: Any) -> None:
    judge, tokenizer = reward_model()
    judge.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    policy: Any = word_model(tokenizer, padding=0)
    if fair_policy:
        policy = EquiLMForCausalLM.from_base(policy, tokenizer)
    symmetrizer = TextSymmetrizer(["gender"])
    act = symmetrizer.action

    def vowels(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
        """Unfair by itself: it counts letters, and women's words have more of them."""
        return [float(sum(text.count(letter) for letter in "aeiou")) for text in completions]

    fair = invariant_reward(symmetrizer, vowels)
    checked = []

    def watched(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
        given = fair(prompts=prompts, completions=completions, **columns)
        texts = [
            (act.act(prompt, 1), act.act_on_continuation(prompt, completion, 1))
            for prompt, completion in zip(prompts, completions, strict=True)
        ]
        swapped = fair(prompts=[p for p, _ in texts], completions=[c for _, c in texts])
        assert given == swapped
        checked.append(given)
        return list(given)

    settings = trl.GRPOConfig(
        output_dir=str(tmp_path),
        **QUIET,
        learning_rate=1e-3,
        per_device_train_batch_size=4,
        num_generations=2,
        max_completion_length=6,
    )
    trainer = trl.GRPOTrainer(
        model=policy,
        args=settings,
        reward_funcs=[watched, judge],
        processing_class=tokenizer,
        reward_processing_classes=[None, tokenizer],
        train_dataset=datasets.Dataset.from_dict({"prompt": TEXTS}),
    )
    trainer.train()
    assert trainer.state.global_step == STEPS and len(checked) == STEPS
    own, other = rewards(judge, tokenizer)
    assert float((own - other).abs().max()) <= 1e-6
