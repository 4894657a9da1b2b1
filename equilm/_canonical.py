"""The canonical frame in which text is generated: each prompt is moved to one fixed member of its orbit, and back.

All prompts of one orbit are generated as the same canonical text, so with one seed they get one continuation, each in
its own words: generate(g·x) = g·s·generate(x) for some s that fixes x. Where such an s ≠ e exists, the way back is
drawn at random from the elements that fix the prompt, so that rounding never decides between tied words.
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
class Frame:
    """One group element for each row of a batch: ``elements[r]`` turns row r of the user's text into canonical text.

    Args:
        action: the action on token ids.
        elements: int64, shape ``(rows,)``.
    """

    action: TokenAction
    elements: Tensor

    def repeat(self, times: int) -> "Frame":
        """The frame of a batch in which every row stands ``times`` times in a row."""
        return replace(self, elements=self.elements.repeat_interleave(times))

    @property
    def _inverses(self) -> Tensor:
        group = self.action.group
        return torch.tensor([group.inverse(g) for g in group.elements], device=self.elements.device)[self.elements]

    def _tables(self, elements: Tensor, device: torch.device) -> Tensor:
        return self.action.to(device).permutation[elements.to(device)]  # (rows, V)

    def enter(self, ids: Tensor) -> Tensor:
        """Token ids ``(rows, T)`` in the user's words → in canonical words."""
        return self.action.to(ids.device).permutation[self.elements.to(ids.device)[:, None], ids]

    def leave(self, ids: Tensor) -> Tensor:
        """Token ids ``(rows, T)`` in canonical words → in the user's words."""
        return self.action.to(ids.device).permutation[self._inverses.to(ids.device)[:, None], ids]

    def enter_logits(self, logits: Tensor) -> Tensor:
        """Logits ``(rows, V)``, user's columns → canonical columns."""
        return logits.gather(-1, self._tables(self._inverses, logits.device))

    def leave_logits(self, logits: Tensor) -> Tensor:
        """Logits ``(rows, V)``, canonical columns → user's columns: (u⁻¹·y)[v] = y[perm[u][v]]."""
        return logits.gather(-1, self._tables(self.elements, logits.device))

    def enter_cache(self, cache: OrbitCache) -> None:
        """Renumber a cache, in place, from the user's frame: the row of (g, r) then holds g·u·x_r."""
        self._renumber(cache, self.elements)

    def leave_cache(self, cache: OrbitCache) -> None:
        """Renumber a cache, in place, back to the user's frame."""
        self._renumber(cache, self._inverses)

    def _renumber(self, cache: OrbitCache, elements: Tensor) -> None:
        group, branches = self.action.group, branches_of(cache)
        products = torch.tensor(group.multiplication_table())  # (|G|, |G|)
        sources = products.to(branches.device)[:, elements.to(branches.device)]  # (|G|, rows): g·u_r
        cache.assign(branches.gather(0, sources))


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


def draw_frame(action: TokenAction, candidates: Tensor, rows_per_prompt: int, fair_ties: bool) -> Frame:
    """The frame for ``rows_per_prompt`` rows of each prompt, ties broken by torch's seeded global generator.

    Args:
        action: the action on token ids.
        candidates: bool, shape ``(B, |G|)``, from `canonical_elements`.
        rows_per_prompt: the number of independent draws for each prompt.
        fair_ties: draw uniformly; False takes the first candidate and draws nothing.
    """
    if fair_ties and bool((candidates.sum(1) > 1).any()):
        draws = torch.multinomial(candidates.float().cpu(), rows_per_prompt, replacement=True).flatten()
        return Frame(action, draws.to(candidates.device))
    return Frame(action, candidates.int().argmax(1).repeat_interleave(rows_per_prompt))


def leave_output(result: Any, texts: Frame, rows: Frame) -> Any:
    """What ``generate`` returned, ids or a `ModelOutput`, in the user's words; caches are left to the caller.

    Args:
        result: ids of shape ``(returned rows, length)``, or an output with sequences, scores and logits.
        texts: the frame of the returned rows.
        rows: the frame of the rows that the search ran on: with beams, all of them.
    """
    if isinstance(result, Tensor):
        return texts.leave(result)
    result["sequences"] = texts.leave(result["sequences"])
    for name in ("scores", "logits"):
        if result.get(name) is not None:
            result[name] = tuple(rows.leave_logits(step) for step in result[name])
    return result


class UserFrameProcessor(LogitsProcessor):
    """Shows a user's logits processor the user's words, while generation goes on in canonical ones."""

    def __init__(self, processor: Callable[[Tensor, Tensor], Tensor], frame: Frame):
        self.processor = processor
        self.frame = frame

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        processed = self.processor(self.frame.leave(input_ids), self.frame.leave_logits(scores))
        return self.frame.enter_logits(processed)


class UserFrameCriteria(StoppingCriteria):
    """Shows a user's stopping criterion the user's words."""

    def __init__(self, criteria: Callable[..., Any], frame: Frame):
        self.criteria = criteria
        self.frame = frame

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Any:
        candidates = len(input_ids) // len(self.frame.elements)  # beam search asks about several for each beam
        return self.criteria(self.frame.repeat(candidates).leave(input_ids), scores, **kwargs)


class UserFrameStreamer(BaseStreamer):
    """Streams the user's words."""

    def __init__(self, streamer: BaseStreamer, frame: Frame):
        self.streamer = streamer
        self.frame = frame

    def put(self, value: Tensor) -> None:
        rows = len(self.frame.elements)
        self.streamer.put(self.frame.leave(value.view(rows, -1)).view(value.shape))

    def end(self) -> None:
        self.streamer.end()
