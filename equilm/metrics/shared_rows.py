"""Running each distinct row once for several models with the same base: plain, EquiLM and R-EquiLM of any axes.

All of them run the unpermuted row. In an ordinary text, most permuted rows equal it, since they contain no word of the
axis. Sharing is exact: a row's hidden states are the same for all models, and if a text contains no word of a model's
axes, so are the mean hidden states that EquiLM projects.
"""

import inspect
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..errors import EquiLMError
from ..modeling_equilm import EquiLMForCausalLM

_PER_ROW = ("input_ids", "attention_mask", "position_ids")


class SharedRows:
    """The last hidden states of the rows seen since the last `clear`.

    Attributes:
        run: the total number of rows that the decoder has run.
        served: the total number of rows that were answered from memory.
    """

    def __init__(self, decoder: nn.Module, head: nn.Module):
        self.run = 0
        self.served = 0
        self._decoder = decoder
        self._forward = decoder.forward
        self._names = tuple(inspect.signature(decoder.forward).parameters)
        self._head_forward = head.forward
        self._hidden: dict[Hashable, Tensor] = {}  # (T, H) for each row
        self._projected: tuple[Tensor, Tensor] | None = None  # hidden states (B, T, H) and their logits (B, T, V)

    def clear(self) -> None:
        """Forget the rows. Call this before texts that share no rows with the texts so far."""
        self._hidden.clear()
        self._projected = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The decoder's forward pass, run only on rows not seen before."""
        given = {**dict(zip(self._names, args, strict=False)), **kwargs}
        per_row = {name: given.pop(name) for name in _PER_ROW if given.get(name) is not None}
        common = {name: value for name, value in given.items() if value is not None}
        if not self._can_share(per_row, common):
            return self._forward(*args, **kwargs)
        batch = len(per_row["input_ids"])
        per_row = {name: value.expand(batch, -1) for name, value in per_row.items()}  # (B, T)
        on_host = {name: value.cpu().numpy() for name, value in per_row.items()}
        settings = tuple(sorted((name, value) for name, value in common.items() if name != "return_dict"))
        keys = [(settings, *((name, value[i].tobytes()) for name, value in on_host.items())) for i in range(batch)]
        new = [i for i, key in enumerate(keys) if key not in self._hidden]
        self.run += len(new)
        self.served += batch - len(new)
        if new:
            outputs = self._forward(**{name: value[new] for name, value in per_row.items()}, **common)
            if set(outputs) != {"last_hidden_state"}:  # the hidden states of all layers, for example
                return outputs  # outputs like these are never remembered, so all rows were new
            self._output = type(outputs)
            self._hidden.update(zip((keys[i] for i in new), outputs.last_hidden_state, strict=True))
        return self._output(last_hidden_state=torch.stack([self._hidden[key] for key in keys]))

    def project(self, hidden: Tensor) -> Tensor:
        """The head's forward pass, remembered for the first hidden states after `clear`.

        They belong to the unpermuted rows if the plain model comes first. Remembering more would take too much memory.
        """
        if torch.is_grad_enabled():
            return self._head_forward(hidden)
        if self._projected is None:
            self._projected = hidden, self._head_forward(hidden)
        known, logits = self._projected
        if not torch.equal(known, hidden):
            return self._head_forward(hidden)
        return logits.clone()  # EquiLM writes the logits of its words into them

    def _can_share(self, per_row: dict[str, Any], common: dict[str, Any]) -> bool:
        """Whether a call's hidden states depend only on its rows and plain settings."""
        return (
            "input_ids" in per_row
            and common.get("use_cache") is False
            and common.get("return_dict", True)
            and not torch.is_grad_enabled()
            and not self._decoder.training
            and all(isinstance(value, Tensor) and value.ndim == 2 for value in per_row.values())
            and all(isinstance(value, bool | int | float | str) for value in common.values())
        )


@contextmanager
def _forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Replace a module's forward pass within the context; a hook cannot do this, since it cannot skip the pass."""
    own = vars(module).get("forward")  # an attribute of the module itself, as accelerate sets it
    module.forward = forward
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own


@contextmanager
def share_rows(base: PreTrainedModel) -> Iterator[SharedRows]:
    """Within the context, the base's decoder runs each row once, for all models that share the base.

    This applies to passes without gradients and with ``use_cache=False`` in this process; others run as usual. Rows are
    remembered until `SharedRows.clear`: in float32 a row of 1024 tokens takes 2.4 MB for a model of width 576, and the
    logits of the first row 200 MB for 49,152 tokens.

    Args:
        base: the base model, in evaluation mode.

    Yields:
        The remembered rows, with counts of the rows run and served.

    Raises:
        EquiLMError: for an EquiLM, whose base is its ``language_model``, and for a model whose decoder is not a module
            of its own.

    Example:
        >>> with share_rows(base) as rows, torch.no_grad():  # doctest: +SKIP
        ...     for ids in texts:
        ...         rows.clear()
        ...         logits = [model(ids, use_cache=False).logits for model in (base, fair, relaxed)]
    """
    if isinstance(base, EquiLMForCausalLM):
        raise EquiLMError("share_rows takes the base model that several models share: pass model.language_model.")
    decoder = base.get_decoder()
    head = cast(nn.Module, base.get_output_embeddings())
    if decoder is base:
        raise EquiLMError(f"{type(base).__name__} has no decoder separate from its head: its rows cannot be shared.")
    rows = SharedRows(decoder, head)
    with _forward(decoder, rows.forward), _forward(head, rows.project):
        yield rows
