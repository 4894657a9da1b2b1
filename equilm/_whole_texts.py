"""What classifiers and masked models share: they read whole texts at once, without a cache, and generate none."""

import warnings
from collections.abc import Iterable
from typing import Any, NoReturn

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from ._base_arguments import TextBatch, refuse_unknown, take_per_text
from ._modeling_base import EquiLMPreTrainedModel
from ._orbit_rows import Rows, all_rows, choose, distinct_rows, is_unusual, tells_apart
from ._self_check import SelfCheck, check_text, quiet, skip_reason, tolerance
from .configuration_equilm import EquiLMConfig
from .errors import EquiLMError, EquiLMWarning


class WholeTextModel(EquiLMPreTrainedModel):
    """A wrapped model that reads whole texts; a subclass says what the group does to its logits.

    Args:
        config: an `EquiLMConfig`.
        language_model: the base model to wrap; it is shared and left unchanged. None builds one from the config.
    """

    def __init__(self, config: EquiLMConfig, language_model: PreTrainedModel | None = None):
        super().__init__(config, language_model)
        self.cache_use = "none"

    @classmethod
    def can_generate(cls) -> bool:
        """False: there is nothing to generate."""
        return False

    def generate(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: the model reads texts and writes none."""
        raise EquiLMError(
            f"{type(self).__name__} reads texts and generates none. To generate, wrap a language model with "
            "EquiLMForCausalLM or EquiLMForSeq2SeqLM."
        )

    def _define(self, images: list[Tensor]) -> Tensor:
        """The definition, which the self-check compares with: from M(g·x) for every g, by the lists of words."""
        raise NotImplementedError

    @property
    def _base_loss(self) -> Any:
        """The base model's loss, also where a user put one of his own there."""
        model = self.language_model if self.language_model.loss_type == self.loss_type else self
        return model.loss_function

    def _read(self, input_ids: Tensor | None, arguments: dict[str, Any]) -> tuple[Any, Rows]:
        """The base model's outputs for the distinct ones among the g·x_b, n rows, and which row serves which.

        Inside `plain` the rows are the texts themselves.

        Raises:
            EquiLMError: for ``inputs_embeds`` and other inputs that the group cannot act on.
        """
        if input_ids is None or arguments.pop("inputs_embeds", None) is not None:
            raise EquiLMError(
                "EquiLM needs input_ids: the group permutes tokens, and inputs_embeds cannot be permuted. Pass the "
                "token ids, or use model.plain() to run the base model unfairly."
            )
        arguments = {name: value for name, value in arguments.items() if value is not None and name != "use_cache"}
        if "use_cache" in self._base_arguments:
            arguments["use_cache"] = False
        per_text = take_per_text(arguments, self._base_arguments)
        refuse_unknown(arguments)
        if not torch.compiler.is_compiling() and self.is_plain:
            copies = input_ids[None]
            rows = all_rows(1, len(input_ids), input_ids.device)
        else:
            copies = self.action.orbit(input_ids)  # (|G|, B, T)
            rows = self._distinct(copies, per_text)
        outputs = self._outputs(TextBatch(input_ids, per_text, arguments).of_rows(copies, rows), len(input_ids) == 1)
        return outputs, rows.to(outputs.logits.device)

    def _distinct(self, copies: Tensor, per_text: dict[str, Any]) -> Rows:
        """One row for each distinct g·x_b: distinct in padding, mask, positions and token types too.

        Pooled heads look for the last token that is no padding among the ids, and do not ask the mask.
        """
        order, batch, _ = copies.shape
        if torch.compiler.is_compiling() or not self._shares_rows or is_unusual(per_text):
            return all_rows(order, batch, copies.device)
        return distinct_rows(copies, None, tells_apart(per_text, batch), None)

    def _outputs(self, arguments: dict[str, Any], of_one_text: bool) -> Any:
        """What the base model makes of rows: one after another where it has no padding token and reads single texts."""
        base: Any = self.language_model
        count = len(arguments["input_ids"])
        if not of_one_text or count == 1 or base.config.get_text_config().pad_token_id is not None:
            return base(**arguments, return_dict=True)
        single = [
            base(**{k: v[row, None] if isinstance(v, Tensor) else v for k, v in arguments.items()}, return_dict=True)
            for row in range(count)
        ]
        joined = {name: _join([output.get(name) for output in single]) for name in _OUTPUTS}
        return ModelOutput(**{name: value for name, value in joined.items() if value is not None})

    def _layers(self, outputs: Any, rows: Rows) -> dict[str, Any]:
        """Hidden states and attentions, where asked for, of the unpermuted texts."""
        return {name: choose(outputs.get(name), rows.branches[0]) for name in _OUTPUTS[1:]}

    def _in_form(self, output: ModelOutput, return_dict: bool | None) -> Any:
        """An output, as a tuple where that is asked for."""
        return output if (self.config.return_dict if return_dict is None else return_dict) else output.to_tuple()

    def self_check(self) -> SelfCheck:
        """Check the guarantee on this model: a short random text against the definition.

        The forward pass is compared with the mean over g of what the base model makes of each g·x by itself (paper,
        eq. 3). If equal rows cannot be shared on this architecture, they no longer are, with a warning. `from_base` and
        `from_pretrained` run it; `fairness_report` shows what it found. Random states and modes stay as they are.

        Raises:
            EquiLMError: names the architecture and the difference.

        Example:
            >>> print(model.self_check())  # doctest: +SKIP
        """
        if self.is_plain:
            raise EquiLMError("Inside plain() there is no fairness to check. Call self_check outside.")
        if reason := skip_reason(self):
            self._checked = SelfCheck({}, skipped=reason)
        else:
            with quiet(self), torch.no_grad():
                self._checked = self._compare()
        return self._checked

    def _compare(self) -> SelfCheck:
        ids = check_text(self.config.token_action(), self.device)
        eos = self.language_model.config.get_text_config().eos_token_id
        if self.language_model.config.is_encoder_decoder and isinstance(eos, int):  # their classifiers look for it
            ids = torch.cat([ids, ids.new_tensor([[eos]])], 1)
        expected, rounding = self._definition(ids)
        allowed = max(tolerance(self.dtype), 4 * rounding)
        shared = self._shares_rows
        error = _relative_error(self(input_ids=ids).logits, expected, self._parts())
        if not error <= allowed and shared:  # NaN is too large as well
            self._shares_rows = False
            error = _relative_error(self(input_ids=ids).logits, expected, self._parts())
        if not error <= allowed:
            raise EquiLMError(
                f"The self-check failed: {type(self.language_model).__name__} in an {type(self).__name__}: the logits "
                f"differ from the mean over the group by {error:.1e} of their size, where rounding gives "
                f"{allowed:.1e}. The model would not treat groups alike, so it is not handed out. Please report the "
                "architecture; TextSymmetrizer.invariant makes any scorer fair on text."
            )
        off = ("sharing rows",) if shared and not self._shares_rows else ()
        if off:
            warnings.warn(
                f"The self-check found {type(self.language_model).__name__} wrong with sharing rows, and right "
                "without. It is switched off: the model is as fair, and slower.",
                EquiLMWarning,
                stacklevel=4,
            )
        return SelfCheck({"forward": error}, allowed, off)

    def _parts(self) -> Iterable[Any]:
        """The parts of the last dimension of the logits that are compared each for itself."""
        return (slice(None),)

    def _definition(self, ids: Tensor) -> tuple[Tensor, float]:
        """1/|G| Σ_g g⁻¹ M(g·x), float32, each g·x by itself; and the base model's own rounding between batches."""
        action = self.config.token_action()  # from the lists, not the table that the model computes with
        images = action.permutation.to(ids.device)[:, ids[0]]  # (|G|, T)
        alone: dict[tuple[int, ...], Tensor] = {}
        for image in images:
            key = tuple(image.tolist())
            if key not in alone:
                alone[key] = self._outputs({"input_ids": image[None]}, True).logits.float()
        expected = self._define([alone[tuple(image.tolist())] for image in images])
        rounding = 0.0
        if self.dtype not in (torch.float32, torch.float64) or getattr(self.language_model, "is_quantized", False):
            together = self._outputs({"input_ids": ids.new_tensor(list(alone))}, True).logits
            rounding = _relative_error(together, torch.cat(list(alone.values())), (slice(None),))
        return expected, rounding


_OUTPUTS = ("logits", "hidden_states", "attentions")


def _join(parts: list[Any]) -> Any:
    """The rows of several outputs below one another: tensors, tuples of them, or None."""
    if parts[0] is None or isinstance(parts[0], Tensor):
        return None if parts[0] is None else torch.cat(parts)
    return tuple(torch.cat(layer) for layer in zip(*parts, strict=True))


def _relative_error(logits: Tensor, expected: Tensor, parts: Iterable[Any]) -> float:
    """The largest error of the parts, relative to the size of the expected logits, both root mean squares."""
    size = expected.float().square().mean().sqrt().clamp(min=1e-6)
    difference = logits.float() - expected.float()
    return max(float(difference[..., part].square().mean().sqrt() / size) for part in parts)
