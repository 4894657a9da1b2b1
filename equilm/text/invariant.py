"""Invariant scores: any judge of texts, averaged over the orbit of what it judges, so that f(gx) = f(x) for every g.

This is the operator (paper, eq. 3) with a trivial action on the output: f_G(x) = 1/|G| Σ_g f(gx).
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from random import Random
from typing import Any, Literal

import numpy as np
import torch

from ..errors import EquiLMError
from ..groups import Group
from .action import TextAction
from .chat import map_texts
from .scores import mean_score

Mode = Literal["orbit", "sample"]


def act_on_item(action: TextAction, item: Any, g: int) -> Any:
    """``g·item`` for what a scorer judges: g acts on every text in it.

    Args:
        action: the action on text.
        item: a text; a tuple of items, such as the pair that a cross-encoder compares; a list of chat messages; or a
            pipeline's ``{"text": …, "text_pair": …}``.
        g: a group element.

    Raises:
        EquiLMError: for anything else.
    """
    if isinstance(item, str):
        return action.act(item, g)
    if isinstance(item, tuple):
        return tuple(act_on_item(action, entry, g) for entry in item)
    if isinstance(item, Mapping):
        return {key: act_on_item(action, value, g) for key, value in item.items()}
    if isinstance(item, list) and item and not all(isinstance(entry, str) for entry in item):
        return map_texts(item, lambda text: action.act(text, g))
    if isinstance(item, list):
        return [action.act(entry, g) for entry in item]
    raise EquiLMError(
        f"Cannot swap words in {item!r}: expected a text, a tuple of texts, chat messages, or a dict of texts."
    )


def check_items(items: Any) -> None:
    """Refuse a single item in place of a list of items to score.

    Raises:
        EquiLMError: names what was given.
    """
    if isinstance(items, str | Mapping) or not isinstance(items, Sequence):
        raise EquiLMError(f"Expected a list of items to score, got {items!r}. Put a single one into a list.")


def distinct_images(orbits: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """The images of several items, each once over all of them, by a key that equal images share."""
    return {_key(image): image for orbit in orbits for image in orbit}


def _key(item: Any) -> str:
    """A key that equal items share; arrays and tensors, such as pictures, are printed shortened."""
    if isinstance(item, Mapping):
        return f"{{{', '.join(f'{name!r}: {_key(value)}' for name, value in item.items())}}}"
    if isinstance(item, list | tuple):
        return f"{type(item).__name__}({', '.join(map(_key, item))})"
    if isinstance(item, torch.Tensor):
        item = item.detach().cpu().double().numpy()
    if isinstance(item, np.ndarray):
        return f"{item.dtype}{item.shape}{sha256(item.tobytes()).hexdigest()}"
    return repr(item)


def scores_of_images(orbits: Sequence[Sequence[Any]], distinct: dict[str, Any], scores: Any) -> list[list[Any]]:
    """For each item the scores of its images, in their order.

    Args:
        orbits: the images of each item.
        distinct: what `distinct_images` found in them.
        scores: one score for each distinct image.

    Raises:
        EquiLMError: for another number of scores.
    """
    if len(scores) != len(distinct):
        raise EquiLMError(
            f"The scorer was given {len(distinct)} items and returned {len(scores)} scores: expected one for each."
        )
    score_of = dict(zip(distinct, scores, strict=True))
    return [[score_of[_key(image)] for image in orbit] for orbit in orbits]


class InvariantScore:
    """A scorer of texts whose scores are the same for a text and all its swaps; made by `TextSymmetrizer.invariant`.

    Distinct images are scored once over the whole batch: a text without words of the axes costs one call, as before.
    A text's images are scored and summed in one fixed order, so a scorer that treats a batch's texts one by one gives
    x and gx the same bits.

    Args:
        score: takes a list of items (texts, tuples of texts, chats or dicts of texts) and returns one score for each:
            a list, or an array or tensor with one row for each. May be ``async``, and take further arguments, which
            are handed on.
        group: the group that acts.
        act: ``act(item, g)`` is ``g·item``.
        mode: "orbit" averages over all images of an item; "sample" scores one image, drawn uniformly, for the price of
            the plain scorer: the same in expectation.
        random: draws the images of "sample".
    """

    def __init__(
        self, score: Callable[..., Any], group: Group, act: Callable[[Any, int], Any], mode: Mode, random: Random
    ):
        if mode not in ("orbit", "sample"):
            raise EquiLMError(f"mode={mode!r} is not known: expected 'orbit' (the mean) or 'sample' (one drawn image).")
        self.score = score
        self.group = group
        self.act = act
        self.mode = mode
        self._random = random

    def __call__(self, items: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        """The invariant scores of the items, in the form that the scorer gives them.

        Args:
            items: a list of what the scorer takes.
            args: handed on to the scorer.
            kwargs: likewise.

        Returns:
            A list of scores, or an array or a tensor of shape ``(len(items), ...)`` if the scorer returns one; to be
            awaited if the scorer is. Means are taken in float32 at least.

        Raises:
            EquiLMError: for a single item that is not in a list, a scorer that returns another number of scores than
                it got items, and scores that have no mean.
        """
        check_items(items)
        orbits = [self._images(item) for item in items]
        distinct = distinct_images(orbits)
        scores = self.score(list(distinct.values()), *args, **kwargs) if distinct else []
        if inspect.isawaitable(scores):

            async def wait() -> Any:
                return self._means(orbits, distinct, await scores)

            return wait()
        return self._means(orbits, distinct, scores)

    def _images(self, item: Any) -> list[Any]:
        """The distinct images of an item, or one that is drawn, in an order that does not depend on the item."""
        orbit = distinct_images([[self.act(item, g) for g in self.group.elements]])
        images = [orbit[key] for key in sorted(orbit)]
        return images if self.mode == "orbit" else [self._random.choice(images)]

    @staticmethod
    def _means(orbits: list[list[Any]], distinct: dict[str, Any], scores: Any) -> Any:
        # All images of an item occur equally often among the |G|, so their mean is the mean over g.
        means = [mean_score(images) for images in scores_of_images(orbits, distinct, scores)]
        if isinstance(scores, torch.Tensor):
            return torch.stack([torch.as_tensor(mean) for mean in means]) if means else scores
        if isinstance(scores, np.ndarray):
            return np.stack(means) if means else scores
        return means
