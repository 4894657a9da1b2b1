"""Canonicalization: each prompt is moved to one fixed member of its orbit, and the generated text is moved back.

All prompts of one orbit are generated as the same canonical prompt. So with the same seed they get the same
continuation, each in its own words: generate(g·x) = g·s·generate(x) for some s that fixes x. If such an s ≠ e exists,
the way back is drawn at random from the elements that fix the prompt, so that rounding never decides between ties.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria
from transformers.generation.streamers import BaseStreamer

from ._orbit_rows import OrbitCache, branches_of
from .actions import TokenAction


@dataclass(frozen=True)
class Canonicalization:
    """The action of one group element on each row of a batch: it turns row r of the user's text into canonical text.

    Args:
        action: the action on token ids.
        elements: int64, shape ``(rows,)``: the element of each row.
    """

    action: TokenAction
    elements: Tensor

    @property
    def inverse(self) -> "Canonicalization":
        """The way back, from canonical text to the user's text."""
        inverses = torch.tensor(list(map(self.action.group.inverse, self.action.group.elements)))
        return replace(self, elements=inverses.to(self.elements.device)[self.elements])

    def repeat(self, times: int) -> "Canonicalization":
        """For a batch in which each row is repeated ``times`` times, copies next to each other."""
        return replace(self, elements=self.elements.repeat_interleave(times))

    def act(self, ids: Tensor) -> Tensor:
        """``u_r·x_r`` for token ids ``(rows, T)``."""
        return self.action.to(ids.device).permutation[self.elements.to(ids.device)[:, None], ids]

    def act_on_logits(self, logits: Tensor) -> Tensor:
        """``u_r·y_r`` for logits ``(rows, V)``: (u·y)[v] = y[perm[u⁻¹][v]]."""
        inverses = self.inverse.elements.to(logits.device)
        return logits.gather(-1, self.action.to(logits.device).permutation[inverses, : logits.shape[-1]])

    def act_on_cache(self, cache: OrbitCache) -> None:
        """Renumber a cache, in place: the row of (g, r) then holds g·u_r·x_r."""
        branches = branches_of(cache)
        products = torch.tensor(self.action.group.multiplication_table(), device=branches.device)  # (|G|, |G|)
        cache.assign(branches.gather(0, products[:, self.elements.to(branches.device)]))


def canonical_elements(action: TokenAction, ids: Tensor, attention_mask: Tensor | None) -> Tensor:
    """The elements that turn each row into the lexicographically smallest member of its orbit.

    Args:
        action: the action on token ids.
        ids: prompts, int64, shape ``(B, T)``.
        attention_mask: shape ``(B, T)``; masked tokens do not count. None: all count.

    Returns:
        bool, shape ``(B, |G|)``: a coset of the row's stabilizer, all of the group where nothing can be swapped.
    """
    orbit = action.to(ids.device).orbit(ids)  # (|G|, B, T)
    if attention_mask is not None:
        orbit = orbit.masked_fill(attention_mask.to(ids.device) == 0, -1)
    smallest = torch.ones(orbit.shape[:2], dtype=torch.bool, device=ids.device)  # (|G|, B)
    beyond = action.vocab_size
    for t in (orbit != orbit[0]).any(dim=(0, 1)).nonzero().flatten().tolist():
        column = orbit[:, :, t].masked_fill(~smallest, beyond)
        smallest &= column == column.min(0).values
    return smallest.T


def draw_canonicalization(
    action: TokenAction, candidates: Tensor, rows_per_prompt: int, fair_ties: bool
) -> Canonicalization:
    """Canonicalize ``rows_per_prompt`` rows of each prompt, ties broken by torch's seeded global generator.

    Args:
        action: the action on token ids.
        candidates: bool, shape ``(B, |G|)``, from `canonical_elements`.
        rows_per_prompt: the number of independent draws for each prompt.
        fair_ties: draw uniformly; False takes the first candidate and draws nothing.
    """
    if fair_ties and bool((candidates.sum(1) > 1).any()):
        draws = torch.multinomial(candidates.float().cpu(), rows_per_prompt, replacement=True).flatten()
        return Canonicalization(action, draws.to(candidates.device))
    return Canonicalization(action, candidates.int().argmax(1).repeat_interleave(rows_per_prompt))


def in_user_words(result: Any, texts: Canonicalization, rows: Canonicalization) -> Any:
    """The result of ``generate``, ids or a `ModelOutput`, in the user's words; caches are left to the caller.

    Args:
        result: ids of shape ``(returned rows, length)``, or an output with sequences, scores and logits.
        texts: the canonicalization of the returned rows.
        rows: the canonicalization of the rows that the search ran on: with beams, all of them.
    """
    if isinstance(result, Tensor):
        return texts.inverse.act(result)
    result["sequences"] = texts.inverse.act(result["sequences"])
    for name in ("scores", "logits"):
        if result.get(name) is not None:
            result[name] = tuple(rows.inverse.act_on_logits(step) for step in result[name])
    return result


class UserWordsProcessor(LogitsProcessor):
    """Shows a user's logits processor the user's words, while generation continues in canonical ones."""

    def __init__(self, processor: Callable[[Tensor, Tensor], Tensor], rows: Canonicalization):
        self.processor = processor
        self.rows = rows

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        back = self.rows.inverse
        return self.rows.act_on_logits(self.processor(back.act(input_ids), back.act_on_logits(scores)))


class UserWordsCriteria(StoppingCriteria):
    """Shows a user's stopping criterion the user's words."""

    def __init__(self, criteria: Callable[..., Any], rows: Canonicalization):
        self.criteria = criteria
        self.rows = rows

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Any:
        candidates = len(input_ids) // len(self.rows.elements)  # beam search asks about several for each beam
        return self.criteria(self.rows.repeat(candidates).inverse.act(input_ids), scores, **kwargs)


class UserWordsStreamer(BaseStreamer):
    """Streams the user's words."""

    def __init__(self, streamer: BaseStreamer, rows: Canonicalization):
        self.streamer = streamer
        self.rows = rows

    def put(self, value: Tensor) -> None:
        ids = value.view(len(self.rows.elements), -1)
        self.streamer.put(self.rows.inverse.act(ids).view(value.shape))

    def end(self) -> None:
        self.streamer.end()
