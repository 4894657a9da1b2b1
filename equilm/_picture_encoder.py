"""The base model's picture encoder, run once for all permuted copies of a text, which see the same pictures."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers.utils.generic import ModelOutput

# How the outputs of an encoder for k copies are made of those for one; None: they are not. Found out by the first call.
_LAYOUTS: "WeakKeyDictionary[nn.Module, Any]" = WeakKeyDictionary()
_UNKNOWN = object()
# PyTorch numbers hooks with a counter that two threads may read at once.
_REGISTERING = Lock()
# The call that shares its pictures in this thread or task.
_CURRENT: ContextVar["_Sharing | None"] = ContextVar("current", default=None)


@contextmanager
def encoded_once(base: Any, copies: int) -> Iterator[None]:
    """Within the context, the base model's picture encoder runs on the first of equal copies, in this thread.

    The rest of the base model gets the features of all copies. The first call tries the encoder on two copies. If its
    output is not that of one copy twice, side by side, or if it gets pictures in another form than k equal parts, it
    runs on all of them. The base model is left as it was.

    Args:
        base: the base model.
        copies: how many equal copies of the pictures the base model is given.
    """
    encoder = None if copies == 1 or torch.compiler.is_compiling() else _encoder(base)
    if encoder is None:
        yield
        return
    sharing = _Sharing(copies)
    with _REGISTERING:
        before = encoder.register_forward_pre_hook(sharing.first_copies, with_kwargs=True)
        after = encoder.register_forward_hook(sharing.all_copies)
    token = _CURRENT.set(sharing)
    try:
        yield
    finally:
        _CURRENT.reset(token)
        with _REGISTERING:
            before.remove()
            after.remove()


def never_share(base: Any) -> None:
    """Let a base model's picture encoder run on all copies from now on."""
    if (encoder := _encoder(base)) is not None:
        _LAYOUTS[encoder] = None


def _encoder(base: Any) -> nn.Module | None:
    found = base.get_encoder(modality="image")
    return None if found is base or found is base.base_model else found  # where transformers finds none


class _Sharing:
    """The hooks of one call on a picture encoder, which other threads may be using meanwhile with hooks of their own.

    Args:
        copies: how many equal copies of its pictures the encoder is given.
    """

    def __init__(self, copies: int):
        self.copies = copies
        self.run = copies  # how many of them the encoder's current call runs on
        self.tried: tuple[tuple[Any, ...], dict[str, Any]] | None = None  # its arguments, if two copies are tried
        self.runs_all = False

    def first_copies(self, encoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> Any:
        """Before the encoder runs: leave the first of equal copies, or two to try it."""
        if _CURRENT.get() is not self or kwargs is None:  # a call in another thread; this one's has keywords
            return None
        self.run, self.tried = self.copies, None
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor) and value.ndim]
        if not self.runs_all and tensors and all(_is_repeated(value, self.copies) for value in tensors):
            known = _LAYOUTS.get(encoder, _UNKNOWN)
            if known is _UNKNOWN:
                self.run, self.tried = 2, (args, kwargs)
            elif known is not None:
                self.run = 1
        return tuple(self._part(value) for value in args), {name: self._part(v) for name, v in kwargs.items()}

    def _part(self, value: Any) -> Any:
        is_tensor = isinstance(value, Tensor) and value.ndim
        return value[: len(value) // self.copies * self.run] if is_tensor and self.run < self.copies else value

    def all_copies(self, encoder: nn.Module, _args: Any, output: Any) -> Any:
        """After it: repeat its output for all copies."""
        if _CURRENT.get() is not self:
            return output
        if self.tried is None:
            return output if self.run == self.copies else _joined(output, _LAYOUTS[encoder], self.copies)
        layout = _layout(output)
        if layout is not None or not encoder.training:  # in training, equal pictures may differ by dropout
            _LAYOUTS[encoder] = layout
        if self.copies == 2:
            return output
        if layout is not None:
            return _joined(_halved(output, layout), layout, self.copies)
        args, kwargs = self.tried
        self.runs_all = True
        try:
            return encoder(*args, **kwargs)
        finally:
            self.runs_all = False


def _is_repeated(value: Tensor, copies: int) -> bool:
    if len(value) % copies:
        return False
    parts = value.reshape(copies, -1)
    return bool((parts == parts[0]).all())


def _layout(output: Any) -> Any:
    """How the output for two copies is made of that for one; None if it is not.

    A tensor is repeated along a dimension, a list of tensors, one for each picture, as a "list". Of others the layouts
    of their entries are given. What is no tensor is "fixed".
    """
    if isinstance(output, Tensor):
        return next((dim for dim in range(output.ndim) if _has_equal_halves(output, dim)), None)
    if isinstance(output, ModelOutput):
        entries = tuple(map(_layout, output.values()))
        return None if None in entries else entries
    if not isinstance(output, list | tuple):
        return "fixed"
    half = len(output) // 2
    if len(output) == 2 * half and all(isinstance(value, Tensor) for value in output):
        pairs = zip(output[:half], output[half:], strict=True)
        if all(one.shape == two.shape and _are_close(one, two) for one, two in pairs):
            return "list"
    layouts = tuple(map(_layout, output))
    return None if None in layouts else layouts


def _has_equal_halves(tensor: Tensor, dim: int) -> bool:
    return tensor.shape[dim] % 2 == 0 and _are_close(*tensor.chunk(2, dim))


def _are_close(one: Tensor, two: Tensor) -> bool:
    """Whether two tensors are equal up to what rounding does to the features of equal pictures."""
    allowed = 1e-3 if one.dtype in (torch.float32, torch.float64) else 3e-2
    scale = one.abs().amax() if one.numel() else 0
    return bool(((one - two).abs() <= allowed * scale).all())


def _halved(output: Any, layout: Any) -> Any:
    """The output for one copy, from that for two."""
    if layout == "list":
        return output[: len(output) // 2]
    if isinstance(layout, int):
        return output.chunk(2, layout)[0]
    return _mapped(_halved, output, layout)


def _joined(output: Any, layout: Any, copies: int) -> Any:
    """The output for all copies, from that for one."""
    if layout == "list":
        return type(output)([*output] * copies)
    if isinstance(layout, int):
        return torch.cat([output] * copies, layout)
    return _mapped(lambda value, entry: _joined(value, entry, copies), output, layout)


def _mapped(change: Any, output: Any, layout: Any) -> Any:
    if layout == "fixed":
        return output
    if isinstance(output, ModelOutput):
        entries = zip(output.items(), layout, strict=True)
        return type(output)(**{name: change(value, entry) for (name, value), entry in entries})
    return type(output)([change(value, entry) for value, entry in zip(output, layout, strict=True)])
