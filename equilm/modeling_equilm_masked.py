"""EquiLM and R-EquiLM around any masked language model of transformers, such as BERT (paper, eq. 3)."""

from dataclasses import replace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor
from transformers import AutoModelForMaskedLM
from transformers.modeling_outputs import MaskedLMOutput

from ._fairness_report import FairnessReport
from ._whole_texts import WholeTextModel


class EquiLMForMaskedLM(WholeTextModel):
    """A masked language model that treats demographic groups alike: P(gv at i | g·x) = P(v at i | x) for every g.

    The logits at each position are φ(x)[v] = 1/|G| Σ_g M(g·x)[g·v] (paper, eq. 3); with ``config.relaxed``, R-EquiLM,
    φ(x)[v] = M(x)[v] for the general words. Build it with `from_base`.

    Args:
        config: an `EquiLMConfig`.
        language_model: the base model to wrap; it is shared and left unchanged. None builds one from the config.

    Example:
        >>> from equilm import EquiLMForMaskedLM
        >>> model = EquiLMForMaskedLM.from_base("answerdotai/ModernBERT-base", axes=["gender"])  # doctest: +SKIP
    """

    base_auto_class: ClassVar[Any] = AutoModelForMaskedLM

    def fairness_report(self) -> FairnessReport:
        """What is on: print it. Inside `plain` it says that fairness is off."""
        report = super().fairness_report()
        relaxed = "equal logits for swapped and neutral words; no promise about general words"
        promise = relaxed if self.config.relaxed else "P(gv at i | gX) = P(v at i | X) for every g, word v and place i"
        return replace(report, promise=promise)

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
    ) -> MaskedLMOutput:
        """The averaged logits.

        Args:
            input_ids: int64, shape ``(B, T)``, padded on either side.
            attention_mask: shape ``(B, T)``.
            position_ids: shape ``(B, T)``.
            token_type_ids: shape ``(B, T)``; they stay where they are, while g acts on the tokens.
            inputs_embeds: refused: an embedding cannot be permuted.
            labels: int64, shape ``(B, T)``, -100 where there is no loss.
            return_dict: False returns a tuple.
            kwargs: flags, handed on to the base model; ``num_items_in_batch`` as in transformers. Tensors of other
                names are refused.

        Returns:
            ``logits`` of shape ``(B, T, V)``; with ``labels`` the mean cross-entropy as ``loss``; hidden states and
            attentions, where asked for, of the unpermuted texts.

        Raises:
            EquiLMError: for what the group cannot act on, by name.
        """
        num_items = kwargs.pop("num_items_in_batch", None)
        given = {"attention_mask": attention_mask, "position_ids": position_ids, "token_type_ids": token_type_ids}
        outputs, rows = self._read(input_ids, {**kwargs, **given, "inputs_embeds": inputs_embeds})
        plain = len(rows.branches) == 1
        logits = outputs.logits if plain else self._mean_logits(outputs.logits, rows)  # (B, T, V)
        loss = None
        if labels is not None:
            vocab_size = logits.shape[-1]
            loss = self._base_loss(logits=logits, labels=labels, vocab_size=vocab_size, num_items_in_batch=num_items)
        output = MaskedLMOutput(loss=loss, logits=cast(Any, logits), **self._layers(outputs, rows))
        return cast(MaskedLMOutput, self._in_form(output, return_dict))

    def _define(self, images: list[Tensor]) -> Tensor:
        action = self.config.token_action().to(images[0].device)
        inverse = [action.act_on_logits(images[g], action.group.inverse(g)) for g in action.group.elements]
        mean = torch.stack(inverse).mean(0)
        if self.config.relaxed:
            general = list(action.general_ids)
            mean[..., general] = images[0][..., general]
        return mean

    def _parts(self) -> tuple[Any, ...]:
        action = self.config.token_action()
        general = torch.tensor(action.general_ids, dtype=torch.int64)
        return slice(None), torch.cat([action.moved.nonzero().flatten(), general]).to(self.device)
