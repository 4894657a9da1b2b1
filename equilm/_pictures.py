"""Pictures beside texts: the same for all permuted copies of a text, in whatever layout the base model has them."""

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

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


def _repeat(value: Any, times: int, dim: int = 0) -> Any:
    if isinstance(value, Tensor):
        return torch.cat([value] * times, dim) if value.ndim and times > 1 else value
    return list(value) * times if isinstance(value, list | tuple) else value


def mismatch(base: Any, ids: Tensor, error: Exception) -> EquiLMError:
    """The error for pictures that the base model cannot put into the texts."""
    tokens = torch.tensor(placeholder_tokens(base.config), device=ids.device)
    counts = torch.isin(ids, tokens).sum(-1).tolist()
    return EquiLMError(
        f"{type(base).__name__} cannot put the pictures into the texts, which have {counts} tokens that stand for "
        f"pictures: {error} (counted over all permuted copies). Let the processor make the texts and the pictures in "
        "one call, with as many pictures as the texts name."
    )
