"""Invariance: how much the scores of texts change when the groups in the texts are swapped."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from ..errors import EquiLMError
from ..groups import Group
from ..text.action import TextAction
from ..text.invariant import act_on_item, check_items, distinct_images, scores_of_images
from ..words.axes import AxisLike
from .bootstrap import check_bootstrap, clustered_means
from .estimates import Estimate

Array = NDArray[np.float64]


@dataclass(frozen=True)
class InvarianceResult:
    """How much scores change under swaps. All changes are 0 for an invariant scorer.

    Args:
        items: the number of items that were scored.
        moved: how many of them contain words of the axes. The others cannot change and are left out below.
        order: |G|, the number of swaps, including the identity.
        difference: the mean of |f(gx) - f(x)| over moved items and all g except the identity. For labels and vectors,
            the largest difference of an entry counts.
        largest: the largest of these differences.
        label_flips: the share of moved items for which some swap changes the most likely label; None for scores without
            labels.
        order_flips: consider pairs of a moved item and another item: the share whose order changes when the moved item
            is swapped; None for scores that have no order.
        confidence: the confidence level of the intervals.
    """

    items: int
    moved: int
    order: int
    difference: Estimate
    largest: float
    label_flips: Estimate | None
    order_flips: Estimate | None
    confidence: float

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)


def invariance(
    score: Callable[[list[Any]], Any],
    items: Sequence[Any],
    axes: AxisLike | Sequence[AxisLike],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> InvarianceResult:
    """Measure a scorer, plain or made invariant by `TextSymmetrizer.invariant`.

    Args:
        score: takes a list of items and returns one score for each: a number, a vector, a dict of numbers by label, or
            a pipeline's labels with ``top_k=None``. It is called once, with the distinct images of all items.
        items: texts, tuples of texts, chats or dicts of texts.
        axes: axes, built-in names or paths of JSON files, one or several.
        confidence: the confidence level of the intervals, between 0 and 1. Shares of items have Wilson intervals; means
            over items and the share of pairs have bootstrap percentiles over items.
        resamples: the number of bootstrap samples.
        seed: the seed of the bootstrap.

    Raises:
        EquiLMError: for a single item that is not in a list, items without words of the axes, and scores of different
            forms.

    Example:
        >>> result = invariance(lambda texts: [len(text) for text in texts], ["A man.", "A dog."], "gender")
        >>> result.moved, result.difference.value, result.order_flips.value
        (1, 2.0, 1.0)
    """
    check_items(items)
    if not items:
        raise EquiLMError("There are no items to score: expected at least one.")
    check_bootstrap(resamples, confidence)
    action = TextAction(axes)
    group = action.group
    orbits = [[act_on_item(action, item, g) for g in group.elements] for item in items]
    moved = [place for place, orbit in enumerate(orbits) if any(image != orbit[0] for image in orbit)]
    if not moved:
        raise EquiLMError(f"None of the {len(items)} items contains a word of the axes, so there is nothing to swap.")
    distinct = distinct_images(orbits)
    scores = scores_of_images(orbits, distinct, score(list(distinct.values())))
    rows, kind = _rows([one for images in scores for one in images])
    values = rows.reshape(len(items), group.order, -1)  # (N, |G|, D)

    apart = np.abs(values[moved, 1:] - values[moved, :1]).max(-1)  # (moved, |G| - 1)

    def interval(per_item: Array) -> Estimate:
        (estimate,) = clustered_means(
            per_item[None, :, None],  # (1, items, 1): one value for each
            np.ones((len(per_item), 1)),
            resamples=resamples,
            confidence=confidence,
            seed=seed,
        )
        return cast(Estimate, estimate)

    return InvarianceResult(
        items=len(items),
        moved=len(moved),
        order=group.order,
        difference=interval(apart.mean(1)),
        largest=float(apart.max()),
        label_flips=_label_flips(values[moved], confidence) if kind == "labels" else None,
        order_flips=interval(_order_flips(values[..., 0], moved, group)) if kind == "number" else None,
        confidence=confidence,
    )


def _label_flips(values: Array, confidence: float) -> Estimate:
    labels = values.argmax(-1)  # (moved, |G|)
    flipped = int((labels != labels[:, :1]).any(1).sum())
    low, high = binomtest(flipped, len(labels)).proportion_ci(confidence, method="wilson")
    return Estimate(flipped / len(labels), float(low), float(high))


def _order_flips(values: Array, moved: list[int], group: Group) -> Array:
    """For each moved item, the share of (other item, swap) in which the order changes, shape ``(moved,)``."""
    if len(values) < 2:
        return np.zeros(len(moved))
    shares = np.empty(len(moved))
    for row, place in enumerate(moved):
        others = np.delete(values[:, 0], place)  # (N - 1,)
        before = np.sign(values[place, 0] - others)  # (N - 1,)
        after = np.sign(values[place, 1:, None] - others)  # (|G| - 1, N - 1)
        shares[row] = (before != after).mean()
    return shares


def _rows(scores: list[Any]) -> tuple[Array, str]:
    """Scores as the rows of an array, shape ``(n, D)``, and their kind: "number", "labels" or "vector"."""
    first = scores[0]
    if isinstance(first, Sequence) and first and isinstance(first[0], Mapping):
        scores = [{entry["label"]: entry["score"] for entry in score} for score in scores]
        first = scores[0]
    if isinstance(first, Mapping):
        names = sorted(first)
        for score in scores:
            if sorted(score) != names:
                raise EquiLMError(
                    f"Scores have different labels, {names} and {sorted(score)}: a pipeline needs top_k=None."
                )
        return np.array([[float(score[name]) for name in names] for score in scores]), "labels"
    try:
        rows = np.array([np.asarray(score, dtype=np.float64).ravel() for score in scores])
    except (TypeError, ValueError) as error:
        raise EquiLMError(f"A score is {first!r}: expected numbers, vectors of one length, or labels.") from error
    return rows, "number" if np.ndim(first) == 0 else "vector"
