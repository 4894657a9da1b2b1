"""Pictures beside texts: the same for all permuted copies of a text, and encoded once for all of them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn
from transformers.utils.generic import ModelOutput

from ._orbit_rows import Rows
from .errors import EquiLMError

# What stands in a text where features of pictures or videos go, by the names that configurations have for it.
_PLACEHOLDERS = ("image_token_id", "image_token_index", "video_token_id", "video_token_index")
# Settings that a call may make of the picture encoder: the same for all rows, whatever their type.
_SETTINGS = ("vision_feature_layer", "vision_feature_select_strategy", "vision_aspect_ratio")
# Pixels in one long row for the whole batch, by what says how long each picture's part is.
_PACKED = {"target_sizes": "pixel_values", "target_sizes_videos": "pixel_values_videos"}
# Texts or their embeddings under names of their own, which the group would have to act on.
_TEXTS = re.compile(r"(.*_)?(input_ids|inputs_embeds)|labels|decoder_.*|encoder_outputs|.*_hidden_states")

# PyTorch numbers hooks with a counter that two threads may read at once.
_REGISTERING = Lock()
# The call that shares its pictures in this thread or task.
_CURRENT: ContextVar["_Sharing | None"] = ContextVar("current", default=None)


@dataclass(frozen=True)
class Pictures:
    """What a batch of texts has of pictures, in the base model's own layout: by text, by picture or by patch.

    In any of these layouts the pictures of all texts, k times one after another, are those of k copies of the batch.

    Args:
        arguments: the base model's arguments, by name: tensors and lists, in the order of the texts.
        texts: the number of texts that they belong to. A batch may hold several copies of each, side by side.
    """

    arguments: dict[str, Any]
    texts: int

    def repeated(self, times: int) -> dict[str, Any]:
        """The arguments for ``times`` copies of the texts."""
        packed = {pixels for sizes, pixels in _PACKED.items() if sizes in self.arguments}
        return {
            name: value if name in _SETTINGS else _repeat(value, times, -1 if name in packed else 0)
            for name, value in self.arguments.items()
        }


def take_pictures(arguments: dict[str, Any], accepted: frozenset[str]) -> dict[str, Any]:
    """Take out of the arguments what belongs to pictures, videos and sounds: all tensors that are no text.

    Args:
        arguments: the keyword arguments that are left after masks, positions and token types are taken out.
        accepted: the names that the base model's forward pass takes.
    """
    names = [name for name in arguments if name in accepted and not _TEXTS.fullmatch(name)]
    found = {
        name: arguments.pop(name)
        for name in names
        if name in _SETTINGS or isinstance(arguments[name], Tensor | list | tuple)
    }
    return {name: value for name, value in found.items() if value is not None}


def placeholder_tokens(config: Any) -> tuple[int, ...]:
    """The ids of the tokens that stand for pictures and videos in a text."""
    found = (getattr(config, name, None) for name in _PLACEHOLDERS)
    return tuple(sorted({token for token in found if isinstance(token, int)}))


def named_tokens(config: Any) -> dict[str, int]:
    """The tokens that a configuration names, such as ``eoi_token_id``, those of its parts included."""
    entries = config.to_dict().items()
    names = {k: v for k, v in entries if k.endswith(("token_id", "token_index")) and isinstance(v, int)}
    for part in config.sub_configs:
        if (of_part := getattr(config, part, None)) is not None:
            names |= {f"{part}.{name}": token for name, token in named_tokens(of_part).items()}
    return names


def aligned_rows(rows: Rows, texts: int) -> Rows:
    """The same rows as k copies of a batch of texts, as `Pictures.repeated` has their pictures.

    Row ``j·texts + b`` belongs to text b, so equal texts with different pictures get rows of their own. A text with
    fewer distinct permuted copies than another has its first one several times.

    Args:
        rows: rows of ``copies·texts`` texts, the copies of a text side by side.
        texts: the number of texts without the copies.
    """
    order, batch = rows.branches.shape
    by_text = rows.branches.view(order, texts, -1).transpose(0, 1).flatten(1)  # (texts, |G|·copies)
    places = torch.arange(order * batch, device=by_text.device).view(order, texts, -1).transpose(0, 1).flatten(1)
    found = [own.unique(return_inverse=True) for own in by_text]
    copies = max(len(distinct) for distinct, _ in found)
    first = rows.first.new_zeros(copies, texts)
    branches = torch.empty_like(by_text)
    for text, (distinct, inverse) in enumerate(found):
        own = places.new_full((len(distinct),), order * batch).scatter_reduce(0, inverse, places[text], "amin")
        first[:, text] = own[0]
        first[: len(distinct), text] = own
        branches[text] = inverse * texts + text
    branches = branches.view(texts, order, -1).transpose(0, 1).reshape(order, batch)
    patterns, counts = branches.unique(dim=0, return_counts=True)
    return Rows(branches, first.flatten(), patterns, counts)


@contextmanager
def encoded_once(base: Any, pictures: Pictures | None, rows: Rows) -> Iterator[None]:
    """Within the context, the base model's picture encoder runs on the first of equal copies, in this thread.

    The rest of the base model gets the features of all copies. Where the encoder gets its pictures in another form
    than k equal parts, it runs on all of them. The base model is left as it was.

    Args:
        base: the base model.
        pictures: the pictures of the texts; None if there are none.
        rows: the rows that the base model is given, as `aligned_rows` has them.
    """
    copies = 1 if pictures is None or torch.compiler.is_compiling() else len(rows.first) // pictures.texts
    encoder = base.get_encoder(modality="image") if copies > 1 else base
    if encoder is base or encoder is base.base_model:  # transformers finds none
        yield
        return
    sharing = _Sharing(copies)
    with _REGISTERING:
        before = encoder.register_forward_pre_hook(sharing.first_copy, with_kwargs=True)
        after = encoder.register_forward_hook(sharing.all_copies)
    token = _CURRENT.set(sharing)
    try:
        yield
    finally:
        _CURRENT.reset(token)
        with _REGISTERING:
            before.remove()
            after.remove()


class _Sharing:
    """The hooks of one call on a picture encoder, which other threads may be using meanwhile with hooks of their own.

    Args:
        copies: how many equal copies of its pictures the encoder is given.
    """

    def __init__(self, copies: int):
        self.copies = copies
        self.is_shared = False  # the encoder's current call

    def first_copy(self, _encoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> Any:
        """Before the encoder runs: leave the first of equal copies, if that is what it was given."""
        if _CURRENT.get() is not self or kwargs is None:  # a call in another thread; this one's has keywords
            return None
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor) and value.ndim]
        self.is_shared = bool(tensors) and all(_is_repeated(value, self.copies) for value in tensors)
        if not self.is_shared:
            return None
        return tuple(_first(v, self.copies) for v in args), {k: _first(v, self.copies) for k, v in kwargs.items()}

    def all_copies(self, _encoder: nn.Module, _args: Any, output: Any) -> Any:
        """After it: repeat its output for all copies."""
        return _repeat_output(output, self.copies) if self.is_shared and _CURRENT.get() is self else output


def _is_repeated(value: Tensor, copies: int) -> bool:
    if len(value) % copies:
        return False
    parts = value.view(copies, -1) if value.is_contiguous() else value.reshape(copies, -1)
    return bool((parts == parts[0]).all())


def _first(value: Any, copies: int) -> Any:
    return value[: len(value) // copies] if isinstance(value, Tensor) and value.ndim else value


def _repeat(value: Any, times: int, dim: int = 0) -> Any:
    if isinstance(value, Tensor):
        return torch.cat([value] * times, dim) if value.ndim and times > 1 else value
    return list(value) * times if isinstance(value, list | tuple) else value


def _repeat_output(output: Any, times: int) -> Any:
    if isinstance(output, Tensor):
        return _repeat(output, times)
    if isinstance(output, ModelOutput):
        return type(output)(**{name: _repeat_output(value, times) for name, value in output.items()})
    if isinstance(output, list | tuple):
        return type(output)(_repeat_output(value, times) for value in output)
    return output


def mismatch(base: Any, ids: Tensor, error: Exception) -> EquiLMError:
    """The error for pictures that the base model cannot put into the texts."""
    tokens = torch.tensor(placeholder_tokens(base.config), device=ids.device)
    counts = torch.isin(ids, tokens).sum(-1).tolist()
    return EquiLMError(
        f"{type(base).__name__} cannot put the pictures into the texts, which have {counts} tokens that stand for "
        f"pictures: {error} (counted over all permuted copies). Let the processor make the texts and the pictures in "
        "one call, with as many pictures as the texts name."
    )
