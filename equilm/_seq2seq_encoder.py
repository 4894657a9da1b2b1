"""The encoder of an encoder-decoder, run on the permuted texts: once for each distinct one."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from ._orbit_rows import all_rows, choose, distinct_rows
from .actions import TokenAction
from .errors import EquiLMError


@dataclass
class OrbitEncoderOutput(BaseModelOutput):
    """What the encoder made of all g·x_b.

    What is in `BaseModelOutput`, such as ``last_hidden_state`` of shape ``(B, T, H)``, is of the texts as they are.

    Args:
        states: the last hidden states of the n distinct rows, shape ``(n, T, H)``, as a tuple of one: generate()
            repeats the tensors it finds in encoder outputs for every beam, and these serve all beams as they are.
        branches: int64, shape ``(B, |G|)``: the row of ``states`` that holds g·x_b.
    """

    states: tuple[Tensor] | None = None
    branches: Tensor | None = None


class OrbitEncoder(nn.Module):
    """An encoder that takes B texts and encodes their orbits.

    Args:
        encoder: the base model's encoder.
        action: the action on token ids.
        shares_rows: whether equal rows run once; otherwise all |G|·B rows run.
    """

    def __init__(self, encoder: PreTrainedModel, action: TokenAction, shares_rows: bool = True):
        super().__init__()
        self.encoder = encoder
        self.action = action
        self.shares_rows = shares_rows

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool = True,
    ) -> OrbitEncoderOutput:
        """Encode the orbits of texts.

        Args:
            input_ids: int64, shape ``(B, T)``.
            attention_mask: shape ``(B, T)``; None: all ones.
            inputs_embeds: refused: an embedding cannot be permuted.
            output_attentions: whether to return the attentions, of the unpermuted texts.
            output_hidden_states: whether to return the hidden states of all layers, of the unpermuted texts.
            return_dict: an `OrbitEncoderOutput` is returned either way.

        Raises:
            EquiLMError: for ``inputs_embeds``, and for a mask that is not of shape ``(B, T)``.
        """
        if inputs_embeds is not None or input_ids is None:
            raise EquiLMError(
                "EquiLM needs input_ids: the group permutes tokens, and inputs_embeds cannot be permuted. Pass the "
                "token ids, or use model.plain() to run the base model unfairly."
            )
        if attention_mask is not None and attention_mask.shape != input_ids.shape:
            raise EquiLMError(
                f"attention_mask has shape {tuple(attention_mask.shape)} and input_ids {tuple(input_ids.shape)}: the "
                "encoder needs a mask with one entry for each token."
            )
        copies = self.action.orbit(input_ids)  # (|G|, B, T)
        order, batch, _ = copies.shape
        if torch.compiler.is_compiling() or not self.shares_rows:
            rows = all_rows(order, batch, copies.device)
        else:
            rows = distinct_rows(copies, attention_mask, None, None)
        outputs = self.encoder(
            input_ids=copies.flatten(0, 1)[rows.first],  # (n, T)
            attention_mask=None if attention_mask is None else rows.select(attention_mask),
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        states = outputs.last_hidden_state  # (n, T, H)
        rows = rows.to(states.device)
        unpermuted = rows.branches[0]
        return OrbitEncoderOutput(
            last_hidden_state=states[unpermuted],
            hidden_states=choose(outputs.get("hidden_states"), unpermuted),
            attentions=choose(outputs.get("attentions"), unpermuted),
            states=(states,),
            branches=rows.branches.T,
        )


def check_encoded(encoder_outputs: Any, batch: int) -> OrbitEncoderOutput:
    """Refuse encoder outputs that are not of ``batch`` texts' orbits.

    Raises:
        EquiLMError: names what was given.
    """
    if not isinstance(encoder_outputs, OrbitEncoderOutput):
        raise EquiLMError(
            f"encoder_outputs is a {type(encoder_outputs).__name__}, which lacks the permuted texts. Pass what "
            "model.get_encoder()(input_ids, attention_mask) of this model returns, or input_ids."
        )
    encoded = len(cast(Tensor, encoder_outputs.branches))
    if encoded != batch:
        raise EquiLMError(f"encoder_outputs holds {encoded} texts, but decoder_input_ids {batch}.")
    return encoder_outputs
