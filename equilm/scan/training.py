"""Training on SCAN in mini-batches with transformers' Trainer: a recipe, validation, the best checkpoint, resuming."""

from collections.abc import Iterator, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler
from transformers import EvalPrediction, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from ..errors import EquiLMError
from .modeling_scan import ScanPreTrainedModel
from .tokens import collate, decode_actions

if TYPE_CHECKING:
    from datasets import Dataset

VALIDATION_SHARE = 0.2  # of the training pairs, as in the paper's code
_POOL = 50  # batches that are drawn together and sorted by length


@dataclass(frozen=True)
class Recipe:
    """How long and how fast to train.

    Args:
        sentences: the number of training sentences whose gradients are used, repetitions included.
        batch_size: sentences to a gradient step.
        learning_rate: the highest, reached after ``warmup`` of the steps; then it falls to 0 along a cosine.
        warmup: a share of the steps.
        evaluations: how often to validate; the best of these models is kept.
    """

    sentences: int
    batch_size: int
    learning_rate: float
    warmup: float = 0.1
    evaluations: int = 10

    @property
    def steps(self) -> int:
        """The number of gradient steps."""
        return self.sentences // self.batch_size


def validation_split(train: "Dataset", seed: int) -> tuple["Dataset", "Dataset"]:
    """Training and validation pairs: a random fifth of the official training pairs is used for validation.

    Raises:
        EquiLMError: for a seed that is not a non-negative integer.
    """
    check_seed(seed)
    parts = train.train_test_split(test_size=VALIDATION_SHARE, seed=seed)
    return parts["train"], parts["test"]


def check_seed(seed: int) -> None:
    """Raise an `EquiLMError` for a seed that is not an integer in 0 … 2³² - 1."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise EquiLMError(f"A seed is an integer of 0 … 2³² - 1, got {seed!r}.")


def fit(
    model: ScanPreTrainedModel,
    train: "Dataset",
    validation: "Dataset",
    recipe: Recipe,
    output_dir: str | Path,
    seed: int = 0,
    callbacks: list[TrainerCallback] | None = None,
    **arguments: Any,
) -> "ScanTrainer":
    """Train a model in place, and keep the weights that did best on the validation pairs.

    An interrupted run continues from its last checkpoint in ``output_dir``. The trained model is saved there too.

    Args:
        model: any of the SCAN models.
        train: rows with ``commands`` and ``actions``.
        validation: rows like those of ``train``.
        recipe: how long and how fast to train.
        output_dir: the folder for checkpoints and the trained model.
        seed: the seed for the order of the sentences, dropout and teacher forcing.
        callbacks: more callbacks for the Trainer.
        arguments: further `transformers.TrainingArguments`, such as ``push_to_hub=True``.

    Returns:
        The trainer. ``.state.best_metric`` is the validation accuracy, ``.sentences_seen`` the number of sentences.

    Raises:
        EquiLMError: for a seed out of range, and for fewer sentences than fit in a batch.
    """
    check_seed(seed)
    if min(len(train), recipe.sentences) < recipe.batch_size:
        raise EquiLMError(
            f"A batch of {recipe.batch_size} sentences needs at least as many, got {len(train)} training pairs and "
            f"sentences={recipe.sentences}. Give a recipe with a smaller batch_size."
        )
    interval = max(1, recipe.steps // recipe.evaluations)
    settings: dict[str, Any] = {
        "max_steps": recipe.steps,
        "per_device_train_batch_size": recipe.batch_size,
        "per_device_eval_batch_size": 512,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": int(recipe.warmup * recipe.steps),
        "max_grad_norm": 5.0,
        "eval_strategy": "steps",
        "eval_steps": interval,
        "save_strategy": "steps",
        "save_steps": interval,
        "save_total_limit": 2,  # the best and the last, to resume from
        "load_best_model_at_end": True,
        "metric_for_best_model": "exact_match",
        "logging_steps": interval,
        "remove_unused_columns": False,  # the collator reads them
        "dataloader_pin_memory": False,
        "report_to": "none",
        "seed": seed,
    }
    trainer = ScanTrainer(
        model=model,
        args=TrainingArguments(str(output_dir), **settings | arguments),
        train_dataset=train,
        eval_dataset=validation,
        data_collator=collate,
        compute_metrics=_exact_match,
        callbacks=callbacks,
    )
    checkpoint = get_last_checkpoint(str(output_dir)) if Path(output_dir).is_dir() else None
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model()
    return trainer


class ScanTrainer(Trainer):
    """A Trainer that batches sentences of similar length and validates by greedy translation."""

    @property
    def sentences_seen(self) -> int:
        """The number of training sentences whose gradients were used so far."""
        per_step = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return self.state.global_step * per_step

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        dataset: Any = self.train_dataset if train_dataset is None else train_dataset
        lengths = torch.tensor([actions.count(" ") for actions in dataset["actions"]])
        return LengthSampler(lengths, self._train_batch_size, self.args.seed)

    def prediction_step(
        self,
        model: Any,
        inputs: dict[str, Tensor | Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        loss, _, _ = super().prediction_step(model, inputs, prediction_loss_only=True)
        inputs = self._prepare_inputs(inputs)
        return loss, model.generate(inputs["input_ids"], inputs["attention_mask"]), inputs["labels"]


class LengthSampler(Sampler[int], Sized):
    """Random batches of sentences of similar length, so that short ones rarely wait for long ones.

    transformers' own `LengthGroupedSampler` keeps the batches sorted too, from long to short over and over; here they
    come in random order, and only full ones, so that the sentences seen can be counted.

    Args:
        lengths: the lengths of the sentences, shape ``(N,)``.
        batch_size: sentences to a batch.
        seed: with the epoch, it decides the order.
    """

    def __init__(self, lengths: Tensor, batch_size: int, seed: int):
        self.lengths, self.batch_size, self.seed = lengths, batch_size, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer, so that a resumed run sees what an uninterrupted one would."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths) // self.batch_size * self.batch_size

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng([self.seed, self.epoch])
        drawn = torch.from_numpy(generator.permutation(len(self.lengths))[: len(self)])
        pools = drawn.split(_POOL * self.batch_size)
        batches = torch.cat([pool[self.lengths[pool].argsort()] for pool in pools]).view(-1, self.batch_size)
        return iter(batches[generator.permutation(len(batches))].flatten().tolist())


def _exact_match(evaluated: EvalPrediction) -> dict[str, float]:
    found, expected = (decode_actions(torch.as_tensor(ids)) for ids in (evaluated.predictions, evaluated.label_ids))
    return {"exact_match": sum(a == b for a, b in zip(found, expected, strict=True)) / len(expected)}
