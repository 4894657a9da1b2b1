"""The token level of encoder-decoders: how far they are from equation 4, by the probability of each token."""

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig

from ..testing import log_prob_gap
from .fairness_levels import Array, TokenMeter, refuse_nan


class Seq2SeqMeter(TokenMeter):
    """An encoder-decoder, fair or plain: the encoder reads X, and the decoder writes Y after its start token.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        action: the action on its token ids.
        sampling: the number of continuations, their length, and the batch size.
    """

    def _generate(self, ids: Tensor, config: GenerationConfig) -> Tensor:
        config.decoder_start_token_id = self._start
        return torch.cat([ids, super()._generate(ids, config)[:, 1:]], 1)  # X, then Y, as for causal models

    def _gap(self, ids: Tensor, mask: Tensor, length: int) -> tuple[Array, Array]:
        action = self.action.to(ids.device)
        written = torch.cat([ids.new_full((len(ids), 1), self._start), ids[:, length:]], 1)
        gap = log_prob_gap(self.model, action, ids[:, :length], 1, mask[:, :length], written).double().cpu()
        scored = (mask[:, length:] > 0).cpu()
        refuse_nan(gap[:, scored].numpy())
        gap = torch.where(scored, gap, 0.0)
        return gap.sum(-1).numpy(), gap.amax(-1).numpy()

    @torch.no_grad()
    def word_log_probs(self, prompt: str) -> list[Array]:
        ids = torch.tensor([self.encode(prompt)], device=self.model.device)
        written = ids.new_tensor([self._written_first()])
        logits = cast(Any, self.model)(input_ids=ids, decoder_input_ids=written).logits[0, -1]
        log_probs = logits.double().log_softmax(-1).cpu().numpy()  # (V,)
        refuse_nan(log_probs)
        return [log_probs[np.array(cycles)] for cycles in self.action.cycles]

    def _written_first(self) -> list[int]:
        """What every text of the decoder begins with."""
        forced = self.model.generation_config.forced_bos_token_id
        return [self._start] if forced is None else [self._start, forced]

    @property
    def _start(self) -> int:
        own = self.model.generation_config
        start = own.decoder_start_token_id if own.decoder_start_token_id is not None else own.bos_token_id
        return int(cast(Any, start))
