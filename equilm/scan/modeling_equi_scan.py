"""Equi-tuned models for SCAN: EquiRNN, EquiGRU and EquiLSTM (paper, section 5.2)."""

from typing import Any, cast

from torch import Tensor

from ..actions import TokenAction
from ..errors import EquiLMError
from ..symmetrize import reynolds
from .configuration_scan import Decoding, EquiScanConfig, Loss
from .modeling_scan import Decoder, ScanPreTrainedModel, ScanSeq2Seq, State
from .tokens import BOS, EOS, IGNORED, ScanGroup, token_actions


class EquiScanSeq2Seq(ScanPreTrainedModel):
    """A pretrained `ScanSeq2Seq` under the equi-tune transform: equivariant for any weights (paper, eq. 3).

    The model runs on all g·x in one batch, and `equilm.symmetrize.reynolds` averages its log-probabilities. The average
    is normalised, except in training for the loss of the branches: there it is left as it is, as in the authors' code,
    and the mean of its negatives is that of the branches' losses. Build it with `from_base`.

    Args:
        config: an `EquiScanConfig`; None makes one from the other arguments.
        base: the model to equi-tune; it is shared, not copied. None builds one from the config.
        kwargs: fields of the `EquiScanConfig`.
    """

    config_class = EquiScanConfig
    config: EquiScanConfig

    def __init__(self, config: EquiScanConfig | None = None, base: ScanSeq2Seq | None = None, **kwargs: Any):
        super().__init__(config or EquiScanConfig(**kwargs))
        self.on_commands, self.on_actions = token_actions(self.config.group)
        if base is None:
            base = ScanSeq2Seq(self.config)
        else:
            for module in base.modules():
                cast(Any, module)._is_hf_initialized = True  # or post_init would draw new weights
        self.base = base
        self.post_init()

    @classmethod
    def from_base(
        cls, base: ScanSeq2Seq, group: ScanGroup, decoding: Decoding = "stepwise", loss: Loss = "average"
    ) -> "EquiScanSeq2Seq":
        """Equi-tune a model. Use the result directly or train it.

        Args:
            base: the pretrained model; it is shared, not copied.
            group: ``"jump_run"``, ``"verb"``, ``"direction"`` or ``"verb+direction"``, see `token_actions`.
            decoding: ``"stepwise"`` or ``"branchwise"``, see `EquiScanConfig`.
            loss: ``"average"`` or ``"branches"``, see `EquiScanConfig`.

        Returns:
            The equi-tuned model, in evaluation mode.

        Raises:
            EquiLMError: if ``base`` is not a `ScanSeq2Seq`.
        """
        if not isinstance(base, ScanSeq2Seq):
            raise EquiLMError(f"EquiScanSeq2Seq equi-tunes a ScanSeq2Seq, got a {type(base).__name__}.")
        kept = {name: getattr(base.config, name) for name in ("cell", "hidden_size", "dropout", "teacher_forcing")}
        return cls(EquiScanConfig(**kept, group=group, decoding=decoding, loss=loss), base).eval()

    def read(self, input_ids: Tensor, attention_mask: Tensor) -> Decoder:
        base = self.base.read(self._copies(input_ids, self.on_commands), self._rows(attention_mask))

        def step(previous: Tensor, state: State) -> State:
            copies = self._copies(previous, self.on_actions)  # (n·|G|,)
            return self._by_sentence(base.step(copies, tuple(part.flatten(0, 1) for part in state)))

        def predict(hidden: Tensor) -> Tensor:
            return self._average(base.predict(hidden.flatten(0, 1)))  # (n, V)

        return Decoder(self._by_sentence(base.state), step, predict)

    def _decode(self, input_ids: Tensor, mask: Tensor, labels: Tensor, teacher_forced: Tensor) -> Tensor:
        if self.config.decoding == "stepwise":
            return super()._decode(input_ids, mask, labels, teacher_forced)
        real = self._rows(labels) != IGNORED
        targets = self._copies(labels.clamp(min=BOS), self.on_actions).where(real, IGNORED)
        commands, forced = self._copies(input_ids, self.on_commands), self._rows(teacher_forced)
        logits = self.base._decode(commands, self._rows(mask), targets, forced)  # (B·|G|, T, V)
        over = _after_first_eos(logits.argmax(-1)) & ~forced[:, None]
        # 0 after the end, as all models have it, where the average of nothing would be uniform.
        return self._average(logits.masked_fill(over[..., None], 0)) * (labels != IGNORED)[..., None]

    def _greedy(self, input_ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        if self.config.decoding == "stepwise":
            return super()._greedy(input_ids, mask)
        actions, logits = self.base._greedy(self._copies(input_ids, self.on_commands), self._rows(mask))
        # A branch that has ended adds nothing; the longest branch continues alone.
        logits = self._average(logits.masked_fill(_after_first_eos(actions)[..., None], 0))
        actions = logits.argmax(-1)
        return actions.masked_fill(_after_first_eos(actions), EOS), logits

    def _copies(self, ids: Tensor, action: TokenAction) -> Tensor:
        """All g·ids, those of one sentence side by side: from ``(B, ...)`` to ``(B·|G|, ...)``."""
        return action.to(ids.device).orbit(ids).transpose(0, 1).flatten(0, 1)

    def _rows(self, values: Tensor) -> Tensor:
        """The values of each sentence, for all its copies: from ``(B, ...)`` to ``(B·|G|, ...)``."""
        return values.repeat_interleave(self.on_actions.group.order, 0)

    def _by_sentence(self, state: State) -> State:
        return tuple(part.unflatten(0, (-1, self.on_actions.group.order)) for part in state)

    def _average(self, logits: Tensor) -> Tensor:
        """1/|G| Σ_g g⁻¹·logits[g], normalised or not: from ``(B·|G|, ..., V)`` to ``(B, ..., V)``."""
        copies = logits.unflatten(0, (-1, self.on_actions.group.order)).transpose(0, 1)
        average = reynolds(copies, self.on_actions.to(logits.device).on_logits)
        of_branches = self.training and self.config.loss == "branches"
        return average if of_branches else average.log_softmax(-1)


def _after_first_eos(actions: Tensor) -> Tensor:
    """bool, shape ``(n, T)``: the positions of ``actions`` after the first `EOS`."""
    ends = (actions == EOS).long()
    return ends.cumsum(1) > ends
