"""An item of a benchmark: the texts whose probabilities are compared, and what the benchmark's metric needs to know."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

BENCHMARKS = ("crows_pairs", "stereoset", "winobias", "winogender", "bbq")


class Text(NamedTuple):
    """A text to score: log P(continuation | context). Both together are the text, without anything between."""

    context: str
    continuation: str


@dataclass(frozen=True)
class Item:
    """One item of a benchmark.

    Args:
        benchmark: one of `BENCHMARKS`.
        id: its id in the benchmark; unique there.
        category: the kind of bias, as the benchmark calls it.
        texts: the texts to score. Which is which, the benchmark's reader says.
        pairs: pairs of texts that differ by the groups they name, such as *he* and *she*. If one element of an axis's
            group turns the first of each pair into the second, the item is a pure swap.
        info: what else the metric needs: labels and names of conditions, no texts.
    """

    benchmark: str
    id: str
    category: str
    texts: tuple[Text, ...]
    pairs: tuple[tuple[Text, Text], ...]
    info: Mapping[str, Any] = field(default_factory=dict)
