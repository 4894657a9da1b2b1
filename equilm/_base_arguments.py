"""The arguments besides token ids that may be passed on to the base model: those of each text, and flags."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationMixin

from ._orbit_rows import Rows, per_row
from ._pictures import Pictures
from .errors import EquiLMError

# These belong to each text, so its permuted copies need them too: shape (B, T), for positions also (K, B, T).
PER_TEXT = ("attention_mask", "position_ids", "token_type_ids", "mm_token_type_ids", "langs")
# So do these, where there are pictures: kinds of tokens, (B, T), and which pictures a token sees, (B, T, pictures, …).
WITH_PICTURES = (*PER_TEXT, "moe_mm_token_type_ids", "cross_attention_mask", "image_attention_mask")
# Where packed texts begin, over the whole batch. Callers give them for texts, and the base model needs them for rows.
PACKING = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")
# The text that classifier-free guidance moves away from.
NEGATIVE_PROMPT = ("negative_prompt_ids", "negative_prompt_attention_mask")
# What generate() gives its decoding methods. Those that do not name it hand it on with what is the model's.
FOR_DECODING = ("tokenizer", "assistant_tokenizer", "assistant_model", "streamer", "synced_gpus")


@dataclass(frozen=True)
class TextBatch:
    """The arguments of a forward pass for B texts.

    Args:
        ids: int64, shape ``(B, T)``.
        per_text: masks, positions and token types, by name.
        flags: the arguments that are the same for all rows, by name.
        starts: where packed texts begin, bool, shape ``(B, T)``; None if no texts are packed.
        pictures: the pictures in the texts; None if there are none.
    """

    ids: Tensor
    per_text: dict[str, Any]
    flags: dict[str, Any]
    starts: Tensor | None = None
    pictures: Pictures | None = None

    def between(self, start: int, end: int) -> "TextBatch":
        """The tokens from ``start`` to ``end``, with the mask of all before them; pictures belong to the first part."""
        after = self.ids.shape[1] - end
        part = {}
        for name, value in self.per_text.items():
            part[name] = value[:, : value.shape[1] - after] if name == "attention_mask" else value[..., start:end]
        return TextBatch(self.ids[:, start:end], part, self.flags, pictures=None if start else self.pictures)

    def without_past(self) -> "TextBatch":
        """The same with the mask of the new tokens alone, for caches of states, in which there is no past to mask."""
        mask = self.per_text.get("attention_mask")
        if mask is None:
            return self
        return replace(self, per_text={**self.per_text, "attention_mask": mask[:, -self.ids.shape[1] :]})

    def picture_copies(self, rows: Rows) -> int:
        """How many copies of its pictures the base model is given for the rows."""
        return 1 if self.pictures is None else len(rows.first) // self.pictures.texts

    def of_rows(self, copies: Tensor, rows: Rows) -> dict[str, Any]:
        """The base model's arguments for the rows: of the permuted ids ``(|G|, B, T)`` and all else."""
        batch = len(self.ids)
        arguments = {name: per_row(value, rows, batch, name == "position_ids") for name, value in self.per_text.items()}
        if self.starts is not None:
            arguments |= packing_of_rows(self.starts, rows)
        if self.pictures is not None:
            arguments |= self.pictures.repeated(self.picture_copies(rows))
        return {"input_ids": copies.flatten(0, 1)[rows.first], **arguments, **self.flags}  # (n, T)


def refuse_unknown(arguments: dict[str, Any]) -> None:
    """Refuse arguments that cannot be given to the permuted texts: tensors, caches, and objects that may contain one.

    Args:
        arguments: the keyword arguments that are left after the known ones are taken out.

    Raises:
        EquiLMError: names the keyword.
    """
    for name, value in arguments.items():
        if name == "output_hidden_states" or value is None or isinstance(value, bool | int | float | str):
            continue  # a flag, the same for all rows
        raise EquiLMError(
            f"EquiLM does not know what the group does to {name}, a {type(value).__name__}, so it cannot give it to "
            "the permuted texts. Leave it out, or use model.plain() to run the base model unfairly. For pictures there "
            "is EquiLMForImageTextToText."
        )


def refuse_inputs(arguments: dict[str, Any], known: Iterable[str]) -> None:
    """Refuse tensors that `generate` is given beside text: images, sounds, videos.

    transformers takes their names for misspelt settings.

    Args:
        arguments: what is no setting of the generation.
        known: the names of the arguments of the model's ``forward``.

    Raises:
        EquiLMError: names the keyword.
    """
    refuse_types(arguments.get("mm_token_type_ids"))
    expected = {*known, *PER_TEXT, *PACKING, *NEGATIVE_PROMPT}
    refuse_unknown({k: v for k, v in arguments.items() if k not in expected and isinstance(v, Tensor | list)})


def refuse_types(types: Tensor | None) -> None:
    """Refuse token types of images, sounds or videos.

    Raises:
        EquiLMError: where a token is not text.
    """
    if types is not None and bool(types.any()):
        raise EquiLMError(
            "mm_token_type_ids marks tokens that are not text, and this model takes text alone: for pictures, wrap its "
            "base in EquiLMForImageTextToText."
        )


def take_per_text(
    arguments: dict[str, Any], accepted: frozenset[str], names: tuple[str, ...] = PER_TEXT
) -> dict[str, Any]:
    """Take out of the arguments what is given for each text, and keep what the base model accepts.

    Positions, token types and languages are extras that not every architecture knows; it then makes its own.

    Args:
        arguments: keyword arguments.
        accepted: the names that the base model's forward pass takes.
        names: those of what is given for each text: `PER_TEXT`, or `WITH_PICTURES`.

    Raises:
        EquiLMError: for token types of images, sounds or videos in text alone.
    """
    given = {name: arguments.pop(name) for name in names if name in arguments}
    if names is PER_TEXT:
        refuse_types(given.get("mm_token_type_ids"))
    return {name: value for name, value in given.items() if value is not None and name in accepted}


def take_packing(arguments: dict[str, Any], ids: Tensor, positions: Tensor | None, flash: bool) -> Tensor | None:
    """Take out of ``arguments`` where packed texts begin: bool, shape ``(B, T)``; None if no texts are packed.

    Args:
        arguments: may contain ``cu_seq_lens_q`` and the like, which count over the whole flattened batch.
        ids: shape ``(B, T)``.
        positions: shape ``(1 or B, T)``, or None. Where they do not rise by one throughout, FlashAttention takes texts
            to begin at the lowest one, in a batch of one, which the permuted rows no longer are; other kernels find
            this out for any batch.
        flash: whether FlashAttention runs, on texts without padding.

    Raises:
        EquiLMError: where queries and keys are packed differently.
    """
    given = {name: arguments.pop(name, None) for name in PACKING}
    queries, keys = given["cu_seq_lens_q"], given["cu_seq_lens_k"]
    if queries is not None:
        if keys is None or not torch.equal(queries, keys) or int(queries[-1]) != ids.numel():
            raise EquiLMError(
                f"cu_seq_lens_q and cu_seq_lens_k must be equal and end with the {ids.numel()} tokens of the batch."
            )
        starts = torch.zeros(ids.shape, dtype=torch.bool, device=ids.device)
        starts.view(-1)[queries[:-1].long()] = True
        return starts
    if not flash or positions is None or positions.ndim != 2 or len(ids) > 1:
        return None
    rising = bool((positions.diff(dim=-1) == 1).all())
    return None if rising else positions == positions.min()


def packing_of_rows(starts: Tensor, rows: Rows) -> dict[str, Any]:
    """``cu_seq_lens_q`` and its like, over the flattened rows ``(n, T)``, from where the texts begin ``(B, T)``."""
    marked = rows.select(starts).clone()  # (n, T)
    marked[:, 0] = True
    begins = marked.flatten().nonzero().flatten().int()
    offsets = torch.cat([begins, begins.new_tensor([marked.numel()])])
    longest = int(offsets.diff().max())
    return dict(zip(PACKING, (offsets, offsets, longest, longest), strict=True))


def own_positions(base: Any, ids: Tensor, arguments: dict[str, Any]) -> Tensor | None:
    """Positions of the base model's own kind, such as M-RoPE's, ``(K, B, T)``; None if it has none.

    Without them such a model takes positions from a state that its last call has left, for whatever rows that had.

    Args:
        base: the base model.
        ids: the new tokens, shape ``(B, T)``.
        arguments: mask, cache, kinds of tokens and pictures, by their names in ``generate``.
    """
    if type(base)._prepare_position_ids_for_generation is GenerationMixin._prepare_position_ids_for_generation:
        return None
    whole: Tensor = base._prepare_position_ids_for_generation(ids, arguments)
    return whole[..., -ids.shape[1] :]
