"""Sequence-to-sequence models for SCAN: what they share, and the plain recurrent one with attention."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence
from tqdm.auto import tqdm
from transformers import PreTrainedModel
from transformers.modeling_outputs import Seq2SeqLMOutput

from ..errors import EquiLMError
from .configuration_scan import ScanConfig
from .tokens import ACTION_VOCAB, BOS, COMMAND_VOCAB, EOS, IGNORED, MAX_LENGTH, decode_actions, encode_commands

# The decoder's state: tensors whose first dimension is the sentence, the first of them the hidden state.
State = tuple[Tensor, ...]


class Decoder(NamedTuple):
    """A decoder that has read some commands.

    Args:
        state: the state before the first action.
        step: maps the previous actions, int64 ``(n,)``, and the state of the first n sentences to their next state.
        predict: maps hidden states ``(n, ...)``, of any sentences and steps, to log-probabilities ``(n, V)``.
    """

    state: State
    step: Callable[[Tensor, State], State]
    predict: Callable[[Tensor], Tensor]


class ScanPreTrainedModel(PreTrainedModel):
    """What the SCAN models share: the loss, greedy translation and its accuracy, all computed in batches.

    A model defines `read`, which reads the commands.
    """

    config_class = ScanConfig
    config: ScanConfig

    def read(self, input_ids: Tensor, attention_mask: Tensor) -> Decoder:
        """Read the commands.

        Args:
            input_ids: int64, shape ``(B, S)``, right-padded.
            attention_mask: int64, shape ``(B, S)``.

        Returns:
            The decoder, ready for the first action.
        """
        raise NotImplementedError

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Embedding, nn.Linear, nn.RNNBase, nn.RNNCellBase)):
            module.reset_parameters()  # PyTorch's own initialization, as in the original code

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor,
        attention_mask: Tensor | None = None,
        teacher_forced: Tensor | None = None,
    ) -> Seq2SeqLMOutput:
        """The log-probabilities at each position of the labels, and the loss.

        Nothing is computed for padded positions: each step runs only on the sentences that have not ended.

        Args:
            input_ids: int64, shape ``(B, S)``, right-padded.
            labels: int64, shape ``(B, T)``; -100 after the end.
            attention_mask: shape ``(B, S)``; None: all ones.
            teacher_forced: bool, shape ``(B,)``: the sentences for which the decoder is fed the labels. None draws them
                with probability ``config.teacher_forcing`` in training and selects all of them in evaluation.

        Returns:
            ``logits``: log-probabilities, shape ``(B, T, V)``, 0 after the end; ``loss``: the negative of their mean
            over the labels.
        """
        mask = _right_padded(input_ids, attention_mask)
        if teacher_forced is None:
            ratio = self.config.teacher_forcing if self.training else 1.0
            teacher_forced = torch.rand(len(input_ids), device=input_ids.device) < ratio
        logits = self._decode(input_ids, mask, labels, teacher_forced)  # (B, T, V)
        loss = F.nll_loss(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
        return Seq2SeqLMOutput(loss=loss, logits=logits)

    def _decode(self, input_ids: Tensor, mask: Tensor, labels: Tensor, teacher_forced: Tensor) -> Tensor:
        lengths, order = (labels != IGNORED).sum(1).sort(descending=True, stable=True)
        labels, teacher_forced = labels[order], teacher_forced[order]
        # As in a packed sequence: the number of sentences that are longer than t.
        counts = (lengths > torch.arange(labels.shape[1], device=labels.device)[:, None]).sum(1).cpu()
        counts = counts[counts > 0]
        state, step, predict = self.read(input_ids[order], mask[order])
        previous, hidden = torch.full_like(order, BOS), []
        for t, n in enumerate(counts.tolist()):
            state = step(previous[:n], tuple(part[:n] for part in state))
            hidden.append(state[0])
            with torch.no_grad():
                predicted = predict(state[0]).argmax(-1)  # (n,)
            previous = torch.where(teacher_forced[:n], labels[:n, t], predicted)
        # The head runs once more, with its gradient, on all steps together: cheaper than step by step.
        packed = PackedSequence(predict(torch.cat(hidden)), counts, order, order.argsort())
        return pad_packed_sequence(packed, batch_first=True, total_length=labels.shape[1])[0]

    @torch.no_grad()
    def generate(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Translate greedily.

        Args:
            input_ids: int64, shape ``(B, S)``, right-padded.
            attention_mask: shape ``(B, S)``; None: all ones.

        Returns:
            int64, shape ``(B, T)`` with T at most 50; each sentence is filled up with `EOS`.
        """
        return self._greedy(input_ids, _right_padded(input_ids, attention_mask))[0]

    def _greedy(self, input_ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The actions, shape ``(B, T)``, and their log-probabilities, ``(B, T, V)``."""
        state, step, predict = self.read(input_ids, mask)
        previous = torch.full_like(input_ids[:, 0], BOS)
        over = torch.zeros_like(previous, dtype=torch.bool)
        actions: list[Tensor] = []
        steps: list[Tensor] = []
        while not over.all() and len(actions) < MAX_LENGTH:
            state = step(previous, state)
            logits = predict(state[0])  # (B, V)
            previous = logits.argmax(-1).masked_fill(over, EOS)
            over = over | (previous == EOS)
            actions.append(previous)
            steps.append(logits)
        return torch.stack(actions, 1), torch.stack(steps, 1)

    def translate(self, commands: Sequence[str], batch_size: int = 512) -> list[str]:
        """Translate commands to actions, in evaluation mode.

        Args:
            commands: commands of the SCAN language.
            batch_size: how many to translate at a time.

        Returns:
            For each command its actions, separated by spaces.

        Raises:
            EquiLMError: names a word outside the language.
        """
        # Neighbors of one length share a batch, so that little of it is padding.
        order = sorted(range(len(commands)), key=lambda place: len(commands[place]))
        found = [""] * len(commands)
        training = self.training
        self.eval()
        try:
            for start in tqdm(range(0, len(order), batch_size), desc="Translating", unit="batch", disable=None):
                places = order[start : start + batch_size]
                ids, mask = encode_commands([commands[place] for place in places])
                actions = decode_actions(self.generate(ids.to(self.device), mask.to(self.device)))
                for place, sentence in zip(places, actions, strict=True):
                    found[place] = sentence
        finally:
            self.train(training)
        return found

    def exact_match(self, pairs: Iterable[dict[str, str]], batch_size: int = 512) -> float:
        """The share of ``pairs`` (rows with ``commands`` and ``actions``) that `translate` gets exactly right.

        Raises:
            EquiLMError: for no pairs, and for a word outside the language.
        """
        rows = list(pairs)
        if not rows:
            raise EquiLMError("The accuracy on no pairs is not defined. Pass at least one.")
        found = self.translate([row["commands"] for row in rows], batch_size)
        return sum(row["actions"] == actions for row, actions in zip(rows, found, strict=True)) / len(rows)


def _right_padded(input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
    if attention_mask is None:
        return torch.ones_like(input_ids)
    if attention_mask.shape != input_ids.shape or (attention_mask.diff(dim=1) > 0).any():
        raise EquiLMError(
            f"attention_mask must be of the shape of input_ids, {tuple(input_ids.shape)}, and of the form 1 … 1 0 … 0 "
            f"in every row, got shape {tuple(attention_mask.shape)}. Pad on the right, as equilm.scan.tokens.collate."
        )
    return attention_mask


def attend(query: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
    """Dot-product attention, unscaled: the mean of ``memory``, weighted by softmax(memory · query).

    Args:
        query: shape ``(n, H)``.
        memory: shape ``(n, S, H)``.
        mask: bool, shape ``(n, S)``.

    Returns:
        Shape ``(n, H)``.
    """
    scores = torch.bmm(memory, query[:, :, None])[:, :, 0].masked_fill(~mask, float("-inf"))  # (n, S)
    return torch.bmm(scores.softmax(-1)[:, None], memory)[:, 0]


_LAYERS: dict[str, Any] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
_CELLS: dict[str, Any] = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}


class ScanSeq2Seq(ScanPreTrainedModel):
    """A bidirectional recurrent encoder and a recurrent decoder with attention: the model that is equi-tuned.

    The architecture is `BasicSeq2Seq` of github.com/facebookresearch/Permutation-Equivariant-Seq2Seq (Gordon et al.,
    2020), for batches.

    Args:
        config: a `ScanConfig`; None makes one from the other arguments.
        kwargs: fields of the `ScanConfig`.

    Example:
        >>> ScanSeq2Seq(cell="gru").num_parameters()
        184904
    """

    def __init__(self, config: ScanConfig | None = None, **kwargs: Any):
        super().__init__(config or ScanConfig(**kwargs))
        size = self.config.hidden_size
        self.command_embedding = nn.Embedding(COMMAND_VOCAB, size)
        self.encoder = _LAYERS[self.config.cell](size, size, batch_first=True, bidirectional=True)
        self.action_embedding = nn.Embedding(ACTION_VOCAB, 2 * size)
        self.dropout = nn.Dropout(self.config.dropout)
        self.combine = nn.Linear(4 * size, 2 * size)
        self.cell = _CELLS[self.config.cell](2 * size, 2 * size)
        self.out = nn.Linear(2 * size, ACTION_VOCAB)
        self.post_init()

    def read(self, input_ids: Tensor, attention_mask: Tensor) -> Decoder:
        embedded = self.command_embedding(input_ids)  # (B, S, H)
        lengths = attention_mask.sum(1).cpu()
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        outputs, final = self.encoder(packed)
        memory, _ = pad_packed_sequence(outputs, batch_first=True, total_length=input_ids.shape[1])  # (B, S, 2H)
        mask = attention_mask.bool()
        # The last states of both directions side by side: (2, B, H) → (B, 2H).
        state = tuple(part.transpose(0, 1).flatten(1) for part in _as_tuple(final))

        def step(previous: Tensor, state: State) -> State:
            n = len(previous)
            embedded = self.dropout(self.action_embedding(previous))  # (n, 2H)
            context = attend(state[0], memory[:n], mask[:n])  # (n, 2H)
            mixed = self.combine(torch.cat([embedded, context], -1)).relu()  # (n, 2H)
            return _as_tuple(self.cell(mixed, state if self.config.cell == "lstm" else state[0]))

        return Decoder(state, step, predict=lambda hidden: self.out(hidden).log_softmax(-1))


def _as_tuple(state: Tensor | State) -> State:
    return state if isinstance(state, tuple) else (state,)
