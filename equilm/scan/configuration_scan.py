"""The configurations of the SCAN models: the plain one, the equi-tuned one, and Gordon et al.'s equivariant one."""

from typing import Any, Literal, get_args

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from ..errors import EquiLMError
from .tokens import token_actions

Cell = Literal["rnn", "gru", "lstm"]
Decoding = Literal["stepwise", "branchwise"]
Loss = Literal["average", "branches"]


@strict
class ScanConfig(PreTrainedConfig):
    """Configuration of `ScanSeq2Seq`; the defaults are those of Gordon et al. (2020).

    Args:
        cell: the recurrent cell of encoder and decoder.
        hidden_size: the size of the encoder's embeddings and of its state in each direction; the decoder's are twice
            that.
        dropout: the dropout on the decoder's embeddings.
        teacher_forcing: the share of training sentences for which the decoder is fed the labels; for the others it is
            fed its own predictions.

    Raises:
        EquiLMError: for an unknown cell, a size below 1, and shares outside 0 … 1.
    """

    model_type = "equilm_scan"
    is_encoder_decoder = True

    cell: str = "lstm"
    hidden_size: int = 64
    dropout: float = 0.1
    teacher_forcing: float = 0.5

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        _check_choice("cell", self.cell, get_args(Cell))
        if self.hidden_size < 1:
            raise EquiLMError(f"hidden_size must be at least 1, got {self.hidden_size}.")
        for name in ("dropout", "teacher_forcing"):
            if not 0 <= getattr(self, name) <= 1:
                raise EquiLMError(f"{name} is a share: expected a number in 0 … 1, got {getattr(self, name)}.")


@strict
class GroupScanConfig(ScanConfig):
    """Configuration of `GroupScanSeq2Seq`.

    Args:
        group: ``"jump_run"``, ``"verb"``, ``"direction"`` or ``"verb+direction"``, see `token_actions`.
        dropout: as in `ScanConfig`; Gordon et al. use none here.
    """

    model_type = "equilm_group_scan"

    group: str = "verb"
    dropout: float = 0.0

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        token_actions(self.group)


@strict
class EquiScanConfig(ScanConfig):
    """Configuration of `EquiScanSeq2Seq`; `EquiScanSeq2Seq.from_base` writes it for you.

    Args:
        group: ``"jump_run"``, ``"verb"``, ``"direction"`` or ``"verb+direction"``, see `token_actions`.
        decoding: ``"stepwise"`` averages after every action and continues from the action that the average predicts;
            ``"branchwise"`` lets every branch translate on its own and averages at the end, position by position, like
            the authors' code.
        loss: the training loss. ``"average"`` is the cross-entropy of the averaged distribution; ``"branches"`` is the
            mean of the branches' own losses, as in the authors' code, so that no branch can rely on another.
    """

    model_type = "equilm_equi_scan"

    group: str = "jump_run"
    decoding: str = "stepwise"
    loss: str = "average"

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        token_actions(self.group)
        _check_choice("decoding", self.decoding, get_args(Decoding))
        _check_choice("loss", self.loss, get_args(Loss))


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise EquiLMError(f"{name}={value!r} is unknown: expected one of {', '.join(choices)}.")
