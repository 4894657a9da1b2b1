"""Token ids of commands and actions, padded batches, and the groups that permute their words."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..actions import TokenAction
from ..errors import EquiLMError
from .language import ACTION_WORDS, COMMAND_WORDS, DIRECTIONS, PRIMITIVES, check_words

BOS, EOS = 0, 1
IGNORED = -100  # labels that PyTorch's losses leave out
MAX_LENGTH = 50  # of a translation, its EOS included; SCAN's longest has 49

_COMMAND_IDS = {word: EOS + 1 + place for place, word in enumerate(COMMAND_WORDS)}
_ACTION_IDS = {word: EOS + 1 + place for place, word in enumerate(ACTION_WORDS)}
_ACTION_TOKENS = ["<bos>", "<eos>", *ACTION_WORDS]
COMMAND_VOCAB, ACTION_VOCAB = EOS + 1 + len(_COMMAND_IDS), EOS + 1 + len(_ACTION_IDS)

ScanGroup = Literal["jump_run", "verb", "direction", "verb+direction"]

_VERBS, _DIRECTIONS = tuple(PRIMITIVES), tuple(DIRECTIONS)
_CYCLES: dict[str, list[tuple[str, ...]]] = {
    "jump_run": [("jump", "run")],
    "verb": [_VERBS],
    "direction": [_DIRECTIONS],
    "verb+direction": [_VERBS, _DIRECTIONS],
}


def collate(pairs: Sequence[dict[str, str]]) -> dict[str, Tensor]:
    """Rows with ``commands`` and ``actions`` as a batch: the data collator of a `transformers.Trainer`.

    Returns:
        ``input_ids``: int64, shape ``(B, S)``; each command ends with `EOS`, which also pads it on the right.
        ``attention_mask``: int64, shape ``(B, S)``, 0 on the padding.
        ``labels``: int64, shape ``(B, T)``; each row ends with `EOS` and is padded with `IGNORED`.

    Raises:
        EquiLMError: names a word outside the language.
    """
    input_ids, attention_mask = encode_commands([pair["commands"] for pair in pairs])
    labels = encode_actions([pair["actions"] for pair in pairs])
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


def encode_commands(commands: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The ``input_ids`` and the ``attention_mask`` of a batch, see `collate`.

    Raises:
        EquiLMError: names a word outside the language.
    """
    for command in commands:
        check_words(command)
    rows = [torch.tensor([*(_COMMAND_IDS[word] for word in command.split(" ")), EOS]) for command in commands]
    mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    return pad_sequence(rows, batch_first=True, padding_value=EOS), mask


def encode_actions(actions: Sequence[str]) -> Tensor:
    """The ``labels`` of a batch, see `collate`.

    Raises:
        EquiLMError: names an action outside the language.
    """
    rows = []
    for sentence in actions:
        words = sentence.split(" ")
        unknown = [word for word in words if word not in _ACTION_IDS]
        if unknown:
            raise EquiLMError(
                f"{unknown[0]!r} in {sentence!r} is not an action of SCAN: expected {', '.join(ACTION_WORDS)}, "
                "separated by single spaces."
            )
        rows.append(torch.tensor([*(_ACTION_IDS[word] for word in words), EOS]))
    return pad_sequence(rows, batch_first=True, padding_value=IGNORED)


def decode_actions(ids: Tensor) -> list[str]:
    """The actions before the first `EOS` (or `IGNORED`) of each row of ``ids``, shape ``(B, T)``."""
    return [" ".join(_ACTION_TOKENS[token] for token in _before_end(row)) for row in ids.tolist()]


def _before_end(row: list[int]) -> list[int]:
    return row[: next((place for place, token in enumerate(row) if token in (EOS, IGNORED)), len(row))]


def token_actions(group: str) -> tuple[TokenAction, TokenAction]:
    """The actions of a group on command ids and on action ids.

    Args:
        group: ``"jump_run"`` swaps jump and run, as Basu et al. (2023, section 5.2) do for add_jump; ``"direction"``
            swaps right and left; ``"verb"`` is the cyclic shift of the four verbs and ``"verb+direction"`` its
            product with ``"direction"``, as in Gordon et al. (2020).

    Raises:
        EquiLMError: for another name.
    """
    if group not in _CYCLES:
        raise EquiLMError(f"{group!r} is not a group on SCAN: expected one of {', '.join(get_args(ScanGroup))}.")
    meanings = PRIMITIVES | DIRECTIONS
    on_commands = [[[_COMMAND_IDS[word] for word in words]] for words in _CYCLES[group]]
    on_actions = [[[_ACTION_IDS[meanings[word]] for word in words]] for words in _CYCLES[group]]
    return TokenAction.from_cycles(on_commands, COMMAND_VOCAB), TokenAction.from_cycles(on_actions, ACTION_VOCAB)
