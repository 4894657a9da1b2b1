"""Gordon et al.'s (2020) equivariant sequence-to-sequence models for SCAN: G-RNN, G-GRU and G-LSTM."""

from typing import Any

import torch
from torch import Tensor, nn

from .configuration_scan import GroupScanConfig
from .group_layers import GroupCell, GroupClassifier, GroupConv, WordConv
from .modeling_scan import Decoder, ScanPreTrainedModel, State, attend
from .tokens import token_actions


class GroupScanSeq2Seq(ScanPreTrainedModel):
    """A model whose layers are equivariant: the translation of g·x is g applied to the translation of x.

    The architecture is `EquiSeq2Seq` of github.com/facebookresearch/Permutation-Equivariant-Seq2Seq, for batches:
    one cell reads the command in both directions, and the decoder attends to it.

    Args:
        config: a `GroupScanConfig`; None makes one from the other arguments.
        kwargs: fields of the `GroupScanConfig`.

    Example:
        >>> model = GroupScanSeq2Seq(cell="lstm", group="verb")
        >>> model.on_commands.group
        CyclicGroup(4)
    """

    config_class = GroupScanConfig
    config: GroupScanConfig

    def __init__(self, config: GroupScanConfig | None = None, **kwargs: Any):
        super().__init__(config or GroupScanConfig(**kwargs))
        size, cell = self.config.hidden_size, self.config.cell
        self.on_commands, self.on_actions = token_actions(self.config.group)
        group = self.on_commands.group
        self.command_embedding = WordConv(self.on_commands, size)
        self.encoder = GroupCell(cell, group, size)
        self.action_embedding = WordConv(self.on_actions, 2 * size)
        self.dropout = nn.Dropout(self.config.dropout)
        self.combine = GroupConv(group, 4 * size, 2 * size)
        self.cell = GroupCell(cell, group, 2 * size)
        self.out = GroupClassifier(self.on_actions, 2 * size)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (GroupConv, GroupClassifier)):
            module.reset_parameters()
        elif module is not self.out.embedding:  # which its classifier has filled
            super()._init_weights(module)

    def read(self, input_ids: Tensor, attention_mask: Tensor) -> Decoder:
        mask = attention_mask.bool()
        memory, state = self._encode(input_ids, mask)  # (B, S, |G|, 2H), each (B, |G|, 2H)
        memory = memory.flatten(2)  # (B, S, |G|·2H): attention sums over the group, so its weights are invariant
        combine, cell, out = self.combine.unrolled(), self.cell.unrolled(), self.out.unrolled()

        def step(previous: Tensor, state: State) -> State:
            n = len(previous)
            embedded = self.dropout(self.action_embedding(previous))  # (n, |G|, 2H)
            context = attend(state[0].flatten(1), memory[:n], mask[:n]).view_as(embedded)
            return cell(combine(torch.cat([embedded, context], -1)).tanh(), state)

        return Decoder(state, step, predict=lambda hidden: out(hidden).log_softmax(-1))

    def _encode(self, input_ids: Tensor, mask: Tensor) -> tuple[Tensor, State]:
        batch, length = input_ids.shape
        # Backwards, the words stand in reverse order but the end of the command stays last, as in the original.
        places = torch.arange(length, device=input_ids.device).expand(batch, length)
        mirrored = mask.sum(1, keepdim=True) - 2 - places
        mirrored = torch.where(mirrored >= 0, mirrored, places)  # (B, S), its own inverse
        both = torch.cat([input_ids, input_ids.gather(1, mirrored)])  # (2B, S): both directions in one batch
        embedded, active = self.command_embedding(both), mask.repeat(2, 1)  # (2B, S, |G|, H), (2B, S)
        cell, outputs = self.encoder.unrolled(), []
        state: State = (torch.zeros_like(embedded[:, 0]),) * self.encoder.parts
        for t in range(length):
            new = cell(embedded[:, t], state)
            keep = active[:, t, None, None]
            state = tuple(torch.where(keep, now, before) for now, before in zip(new, state, strict=True))
            outputs.append(state[0])
        ahead, back = torch.stack(outputs, 1).split(batch)  # (B, S, |G|, H) each
        back = torch.take_along_dim(back, mirrored[:, :, None, None], 1)
        return torch.cat([ahead, back], -1), tuple(torch.cat(part.split(batch), -1) for part in state)
