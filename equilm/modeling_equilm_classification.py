"""Invariant classifiers and reward models: any sequence classifier of transformers, with f(g·x) = f(x)."""

from dataclasses import replace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from ._fairness_report import FairnessReport
from ._orbit_rows import Rows
from ._whole_texts import WholeTextModel
from .actions import TrivialAction
from .configuration_equilm import EquiLMConfig
from .errors import EquiLMError
from .symmetrize import reynolds


class EquiLMForSequenceClassification(WholeTextModel):
    """A classifier or a reward model that gives a text and its swaps the same logits: f(g·x) = f(x) for every g.

    The logits are the mean over g of the base model's on each g·x: the operator (paper, eq. 3) with the trivial action
    on the output. Labels, kind of problem and loss are the base model's. Build it with `from_base`.

    Args:
        config: an `EquiLMConfig`. ``num_labels``, ``id2label``, ``label2id`` and ``problem_type`` are the base model's
            unless given.
        language_model: the base model to wrap; it is shared and left unchanged. None builds one from the config.

    Raises:
        EquiLMError: for ``relaxed``, and for a base model with another number of labels.

    Example:
        >>> from equilm import EquiLMForSequenceClassification
        >>> name = "distilbert/distilbert-base-uncased-finetuned-sst-2-english"
        >>> judge = EquiLMForSequenceClassification.from_base(name, axes=["gender"])  # doctest: +SKIP
        >>> judge(**tokenizer(["He did well.", "She did well."], return_tensors="pt")).logits  # doctest: +SKIP
    """

    base_auto_class: ClassVar[Any] = AutoModelForSequenceClassification
    accepts_loss_kwargs = False  # the loss is a mean over the batch, so Trainer divides it by the steps it accumulates

    def __init__(self, config: EquiLMConfig, language_model: PreTrainedModel | None = None):
        if config.relaxed:
            raise EquiLMError(
                "relaxed=True leaves the logits of general words as they are, and a classifier has no logits of words. "
                "Use relaxed=False, with axes that leave out the lists you do not want swapped."
            )
        base = cast(Any, config.text_config)
        if language_model is None:
            base.id2label, base.label2id = config.id2label, config.label2id
            base.problem_type = config.problem_type
        elif config.num_labels != language_model.config.num_labels:
            raise EquiLMError(
                f"The configuration has {config.num_labels} labels, but {type(language_model).__name__} has "
                f"{language_model.config.num_labels}. Leave the labels out of the configuration, or load the base "
                f"model with num_labels={config.num_labels}."
            )
        super().__init__(config, language_model)

    def fairness_report(self) -> FairnessReport:
        """What is on: print it. Inside `plain` it says that fairness is off."""
        return replace(
            super().fairness_report(),
            reduction="the mean over g of the base model's logits on g·x (paper, eq. 3, the output fixed by the group)",
            promise="f(gX) = f(X) for every g: a text and its swaps get the same logits",
        )

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """The averaged logits.

        Args:
            input_ids: int64, shape ``(B, T)``, padded on either side.
            attention_mask: shape ``(B, T)``.
            position_ids: shape ``(B, T)``.
            token_type_ids: shape ``(B, T)``; they stay where they are, while g acts on the tokens.
            inputs_embeds: refused: an embedding cannot be permuted.
            labels: shape ``(B,)``, or ``(B, num_labels)`` where ``config.problem_type`` is of several labels: the loss
                is the base model's, of the averaged logits.
            return_dict: False returns a tuple.
            kwargs: flags, handed on to the base model. Tensors of other names are refused.

        Returns:
            ``logits`` of shape ``(B, num_labels)``; ``loss`` with labels; hidden states and attentions, where asked
            for, of the unpermuted texts.

        Raises:
            EquiLMError: for what the group cannot act on, by name.
        """
        self._hand_on_padding()
        given = {"attention_mask": attention_mask, "position_ids": position_ids, "token_type_ids": token_type_ids}
        outputs, rows = self._read(input_ids, {**kwargs, **given, "inputs_embeds": inputs_embeds})
        logits = self._mean(outputs.logits, rows)  # (B, num_labels)
        loss = None
        if labels is not None:
            # Classifiers of transformers all have this loss, whether they call it or write it out.
            loss = self._base_loss(logits=logits, labels=labels, pooled_logits=logits, config=self.config)
        output = SequenceClassifierOutput(loss=loss, logits=cast(Any, logits), **self._layers(outputs, rows))
        return cast(SequenceClassifierOutput, self._in_form(output, return_dict))

    def _mean(self, row_logits: Tensor, rows: Rows) -> Tensor:
        """f(x), shape ``(B, L)``, from the logits of each row, ``(n, L)``."""
        branches = row_logits[rows.branches]  # (1 or |G|, B, L)
        if len(branches) == 1:
            return branches[0]
        # In order of size, so that the sum, and its rounding, is the same for all texts of an orbit.
        return reynolds(branches.sort(0).values, TrivialAction(self.group))

    def _define(self, images: list[Tensor]) -> Tensor:
        return torch.stack(images).mean(0)

    def _hand_on_padding(self) -> None:
        """Trainers, as TRL's do, write the padding token into this configuration; the base model reads its own."""
        padding = self.config.get_text_config().pad_token_id
        if padding is not None:
            self.language_model.config.get_text_config().pad_token_id = padding
